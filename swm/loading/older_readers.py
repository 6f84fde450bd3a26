"""Whether transformers 4.57, which other programs still ask for, reads a saved folder as transformers 5 does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from swm.loading.legacy_config import NEW_ROPE_TYPES
from swm.model.families import ModelFamily

VERSION = "4.57"


def older_readers(folder: Path, family: ModelFamily) -> str:
    """In a sentence, what transformers 4.57 makes of a saved folder of a family.

    That is what a test with that version found for the model type of config.json. Code in the folder is written for
    transformers 5, and was not tried.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("auto_map"):
        return f"The code in this folder is written for transformers 5; it was not tried with {VERSION}."
    kinds = sorted({kind for kind in _rope_types(config) if kind in NEW_ROPE_TYPES})
    if kinds:
        return _unread(f"it does not know rotary tables of the type {', '.join(kinds)}")
    kind = config.get("model_type")
    if kind not in family.transformers_4:
        return f"It was not tried with transformers {VERSION}; load it with transformers 5."
    why = family.transformers_4[kind]
    if not why and family.tower:
        return (
            f"Transformers {VERSION} reads the same model from it where it reads the original, whose names of weights "
            "it keeps; that was tried with text."
        )
    return _unread(why) if why else f"Transformers {VERSION} and 5 read the same model from it."


def _unread(why: str) -> str:
    return f"Load it with transformers 5: transformers {VERSION} does not read it right, as {why}."


def _rope_types(config: Mapping[str, Any]) -> Iterator[Any]:
    """The kinds of all rotary tables of a config and of the configs in it."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _rope_types(value)
        elif key == "rope_type":
            yield value
