"""JSON that every reader takes: no NaN, no infinity, no half of a character."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
# Python writes these as they are; they cannot be encoded, or act on a terminal. In JSON they stand in strings only.
UNSAFE = re.compile("[\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def dumps(data: Any, indent: int | None = None) -> str:
    """The data as strict JSON, without a line break at the end.

    Numbers for which JSON has no form are the strings `"NaN"`, `"Infinity"` and `"-Infinity"`: `restored`, `float` and
    the floats of pydantic take them back.
    """
    text = json.dumps(_strict(data), indent=indent, ensure_ascii=False, allow_nan=False)
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def restored(data: Any) -> Any:
    """What `dumps` wrote and `json.loads` read, its strings for numbers as numbers again."""
    if isinstance(data, str):
        return NOT_FINITE.get(data, data)
    if isinstance(data, Mapping):
        return {key: restored(value) for key, value in data.items()}
    return [restored(value) for value in data] if isinstance(data, list) else data


def _strict(data: Any) -> Any:
    if isinstance(data, float) and not math.isfinite(data):
        return "NaN" if math.isnan(data) else "Infinity" if data > 0 else "-Infinity"
    if isinstance(data, Mapping):
        return {_key(key): _strict(value) for key, value in data.items()}
    return [_strict(value) for value in data] if isinstance(data, list | tuple) else data


def _key(key: Any) -> Any:
    return _strict(key) if isinstance(key, float) else key
