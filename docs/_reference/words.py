"""JSON schemas and docstrings as readable text."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

from swm.recipe.parameter_words import ParameterWords, spaced

Schema = Mapping[str, Any]
SECTIONS = ("Args:", "Returns:", "Raises:")
PRUNER = {"depth": " pruner", "width": " pruner"}
INDENT, DEEP = " " * 4, " " * 8


def _named(name: str) -> str:
    """A kind of strategy, or a part of the recipe."""
    if name[0].islower():
        return f"a [{name}{PRUNER.get(name, '')}](strategies.md#{name})"
    return f"[{spaced(name)}](recipe.md#{spaced(name).replace(' ', '-')})"


LINKED = ParameterWords(lambda value: f"`{value}`", _named)


def table(schema: Schema) -> str:
    """The keys of a mapping, one in each row."""
    required = schema.get("required", [])
    rows = [
        f"| `{key}` | {LINKED.allowed(value).replace('|', chr(92) + '|')} | {_default(key, value, required)} |"
        for key, value in schema["properties"].items()
        if "const" not in value
    ]
    return "\n".join(["| key | allowed values | default |", "|---|---|---|", *rows]) if rows else "No parameters."


def _default(key: str, schema: Schema, required: list[str]) -> str:
    if key in required:
        return "required"
    value = schema.get("default")
    return f"`{json.dumps(value).replace(chr(34), '')}`" if value not in (None, []) else ""


def docstring(thing: Any) -> str:
    """The docstring as Markdown. Raises ValueError when there is none of its own."""
    text = inspect.getdoc(thing)
    if not text:
        raise ValueError(f"{thing!r} has no docstring")
    return as_markdown(text)


def as_markdown(text: str) -> str:
    """A docstring with its Args, Returns and Raises as lists; lines that continue an item are joined to it."""
    lines: list[str] = []
    section = ""
    for line in text.splitlines():
        begun = section == "Returns:" and line.startswith(INDENT) and lines[-1].startswith("- ")
        if line in SECTIONS:
            section = line
            lines += [f"**{line.removesuffix(':')}**", ""]
        elif begun or (section and line.startswith(DEEP)):
            lines[-1] += f" {line.strip()}"
        elif section and line.startswith(INDENT):
            name, colon, meaning = line.strip().partition(": ")
            lines.append(f"- `{name}`: {meaning}" if colon and section != "Returns:" else f"- {line.strip()}")
        else:
            section = section if not line else ""
            lines.append(line)
    return "\n".join(lines)
