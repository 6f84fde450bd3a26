"""Overrides: single values of plain data, set by a dotted key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from swm.errors import RecipeError, quoted
from swm.files import yaml_file as yamlfile


def apply_override(data: Any, override: str, tables: Sequence[str] = ()) -> yamlfile.Path:
    """Set one `dotted.key=value` in plain data; returns the path that was set.

    In the `tables`, dotted keys themselves, all that follows is one key, whose name has dots.
    """
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise RecipeError(
            f"'{override}' is not of the form key=value, as in stages.0.depth.target.ratio=0.35", (), "--set"
        )
    try:
        value, _ = yamlfile.parse(text)
        table = next((name for name in tables if dotted.startswith(f"{name}.")), None)
        return set_value(data, dotted, value) if table is None else _set_entry(data, table, dotted, value)
    except RecipeError as error:
        raise RecipeError(error.message, (), f"--set {override}") from None


def _set_entry(data: Any, table: str, dotted: str, value: Any) -> yamlfile.Path:
    """Set what a table of plain data has under a key with dots; returns the path that was set."""
    key, here, parts = dotted[len(table) + 1 :], data, table.split(".")
    for part in parts:
        here = here.setdefault(part, {}) if isinstance(here, dict) else here
    if not isinstance(here, dict):
        raise RecipeError(f"{table} is {quoted(here)}, which has no '{key}'")
    here[key] = value
    return (*parts, key)


def set_value(data: Any, dotted: str, value: Any) -> yamlfile.Path:
    """Set the value at a dotted key of plain data; returns its path. Raises RecipeError where nothing can be set."""
    parts: list[str | int] = [index_or_name(part) for part in dotted.split(".")]
    here = data
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        where = ".".join(map(str, parts[:depth])) or "the recipe"
        if isinstance(here, list):
            if not isinstance(part, int) or part >= len(here):
                raise RecipeError(f"{where} has {len(here)} entries, no '{part}'")
        elif not isinstance(here, dict):
            raise RecipeError(f"{where} is {quoted(here)}, which has no '{part}'")
        elif not last and part not in here:
            here[part] = {}
        if last:
            here[part] = value
        else:
            here = here[part]
    return tuple(parts)


def index_or_name(part: str) -> int | str:
    """A part of a dotted key: the number of an entry, or a name."""
    return int(part) if re.fullmatch("[0-9]{1,9}", part) else part
