"""JSON schemas and docstrings as readable text."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
}
SECTIONS = ("Args:", "Returns:", "Raises:")
INDENT, DEEP = " " * 4, " " * 8
PRUNER = {"depth": " pruner", "width": " pruner"}
TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}


def allowed(schema: Schema) -> str:
    """The allowed values, with links to what has a heading of its own."""
    if "anyOf" in schema:
        # Null means that the key is left out.
        return ", or ".join(allowed(option) for option in schema["anyOf"] if option.get("type") != "null")
    if "$ref" in schema:
        return _named(schema["$ref"].removeprefix("#/$defs/"))
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return _list(schema)
    bounds = [text.format(schema[key]) for key, text in BOUNDS.items() if key in schema]
    return ", ".join([TYPES.get(schema.get("type", ""), "anything"), *bounds])


def _list(schema: Schema) -> str:
    least, most = schema.get("minItems"), schema.get("maxItems")
    count = f" of {least}" if least == most and least else f" of at least {least}" if least else ""
    items = schema.get("items", {})
    inner = allowed(items) if set(items) - {"type"} or items.get("type") in TYPES else "mappings"
    return f"list{count}, each {inner}"


def _named(name: str) -> str:
    """A kind of strategy, or a part of the recipe."""
    if name[0].islower():
        return f"a [{name}{PRUNER.get(name, '')}](strategies.md#{name})"
    return f"[{spaced(name)}](recipe.md#{spaced(name).replace(' ', '-')})"


def spaced(name: str) -> str:
    """`perplexity protocol` from `PerplexityProtocol`."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def table(schema: Schema) -> str:
    """The keys of a mapping, one in each row."""
    required = schema.get("required", [])
    rows = [
        f"| `{key}` | {allowed(value).replace('|', chr(92) + '|')} | {_default(key, value, required)} |"
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
