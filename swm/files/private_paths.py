"""What is made to be pushed names models, texts and folders by their names, never by where they lie on this machine.

Paths that the user wrote as relative ones stay. Of absolute ones the name is written; where they lie is kept in
`timing.json`, which is for this machine alone, so that a saved recipe and a saved plan still find them here.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from swm.files.plain_data import SAID, texts

PRIVATE = "timing.json"
INPUTS = "inputs"


def without_private_paths(data: Any, known: Collection[str] = ()) -> Any:
    """The data with every absolute path as the last part of it, and the `known` ones inside of sentences too."""
    longest_first = sorted({path for path in known if len(path) > 1}, key=len, reverse=True)
    return _without(data, longest_first)


def absolute_paths(recipe: Mapping[str, Any]) -> dict[str, str]:
    """The absolute paths in a resolved recipe by their dotted keys: its output, and whatever lies on this machine."""
    leaves = ((".".join(key), value) for key, value in texts(recipe, SAID) if _is_absolute(value))
    return {key: value for key, value in leaves if key == "output" or _exists(value)}


def remembered_paths(folder: Path) -> dict[str, str]:
    """Where the inputs of a run that left `folder` lay on this machine, by dotted key; empty where nothing is known."""
    return {key: path for key, path in _kept_paths(_kept(folder)).items() if _exists(path)}


def facts_of_machine(folder: Path) -> tuple[list[str], str]:
    """The paths that a run kept for its machine alone, whether they still exist or not, and the machine's system."""
    kept = _kept(folder)
    system = kept.get("machine")
    return list(_kept_paths(kept).values()), system if isinstance(system, str) else ""


def _kept(folder: Path) -> dict[str, Any]:
    try:
        data = json.loads((folder / PRIVATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _kept_paths(kept: dict[str, Any]) -> dict[str, str]:
    paths = kept.get(INPUTS)
    known = paths.items() if isinstance(paths, dict) else ()
    return {key: path for key, path in known if isinstance(path, str)}


def with_remembered_paths(recipe: Any, file: Path) -> Any:
    """A recipe read from `file` with the paths that were left out of it when swm saved it, where they still exist."""
    known = remembered_paths(file.parent)
    return _with_paths(recipe, known, ()) if known else recipe


def _with_paths(data: Any, known: Mapping[str, str], key: tuple[str, ...]) -> Any:
    if isinstance(data, dict):
        return {name: _with_paths(item, known, (*key, str(name))) for name, item in data.items()}
    if isinstance(data, list):
        return [_with_paths(item, known, (*key, str(i))) for i, item in enumerate(data)]
    path = known.get(".".join(key))
    return path if path is not None and data == last_part(path) else data


def last_part(path: str) -> str:
    """The last part of an absolute path; other text as it is."""
    return (Path(path).name or path) if _is_absolute(path) else path


def _without(data: Any, known: list[str]) -> Any:
    if isinstance(data, Mapping):
        return {key: value if key in SAID else _without(value, known) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_without(value, known) for value in data]
    if not isinstance(data, str):
        return data
    if data in known or (_is_absolute(data) and _exists(data)):
        return last_part(data)
    for path in known:
        data = data.replace(path, last_part(path))
    return data


def _is_absolute(text: str) -> bool:
    return len(text) < 4096 and "\n" not in text and (text.startswith("~") or Path(text).is_absolute())


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False
