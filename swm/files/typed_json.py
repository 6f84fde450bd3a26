"""Reading what an earlier run or somebody else wrote: typed, and one error for what is not as it should be.

What a type does not name is left alone: files of other versions of swm hold more.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from swm.errors import SwmError, nearest_file, quoted, reason
from swm.files import json_text as jsontext


class Record(BaseModel):
    """Base of what is read from files."""

    model_config = ConfigDict(extra="ignore", strict=True)


R = TypeVar("R", bound=Record)


def read_json(file: Path, what: str, error: type[SwmError]) -> Any:
    """What a JSON file holds, with numbers that JSON has no form for. Raises `error` that names the file."""
    try:
        return jsontext.restored(json.loads(file.read_text(encoding="utf-8")))
    except OSError as found:
        raise error(f"{what} {file} cannot be read: {found.strerror or found}.{nearest_file(file)}") from None
    except (ValueError, RecursionError) as found:
        raise error(f"{what} {file} cannot be read: it is no JSON ({found})") from None


def check(kind: type[R], data: Any, where: str, error: type[SwmError]) -> R:
    """The record of that kind. Raises `error` that says where, what was found and what is right."""
    try:
        return kind.model_validate(data)
    except ValidationError as found:
        first = found.errors()[0]
        path = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise error(f"{where}: {path} is missing") from None
        place = f"{where}: {path}" if path else where
        raise error(f"{place}: found {quoted(first['input'])}; {reason(first)}") from None
