"""What a parameter may be, in words, from its JSON schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
}
TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}


def spaced(name: str) -> str:
    """`perplexity protocol` from `PerplexityProtocol`."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def _kind_or_part(name: str) -> str:
    return f"a strategy of the kind {name}" if name[0].islower() else f"the keys of a {spaced(name)}"


@dataclass(frozen=True)
class ParameterWords:
    """How values, and names of kinds and of parts of a recipe, are written: as they are, or as code and links."""

    value: Callable[[str], str] = str
    named: Callable[[str], str] = _kind_or_part

    def allowed(self, schema: Schema) -> str:
        """The allowed values."""
        if "anyOf" in schema:
            # Null means that the key is left out.
            return ", or ".join(self.allowed(option) for option in schema["anyOf"] if option.get("type") != "null")
        if "$ref" in schema:
            return self.named(schema["$ref"].removeprefix("#/$defs/"))
        if "enum" in schema:
            return "one of " + ", ".join(self.value(str(value)) for value in schema["enum"])
        if "const" in schema:
            return self.value(str(schema["const"]))
        if schema.get("type") == "array":
            return self._list(schema)
        bounds = [text.format(schema[key]) for key, text in BOUNDS.items() if key in schema]
        return ", ".join([TYPES.get(schema.get("type", ""), "anything"), *bounds])

    def _list(self, schema: Schema) -> str:
        least, most = schema.get("minItems"), schema.get("maxItems")
        count = f" of {least}" if least == most and least else f" of at least {least}" if least else ""
        items = schema.get("items", {})
        inner = self.allowed(items) if set(items) - {"type"} or items.get("type") in TYPES else "mappings"
        return f"a list{count}, each {inner}"
