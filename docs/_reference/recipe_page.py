"""The keys of a recipe, from its JSON schema."""

from __future__ import annotations

from words import table

from swm.plugins.registry import Registry
from swm.recipe.parameter_words import spaced
from swm.recipe.schema import recipe_schema


def recipe(registry: Registry) -> str:
    """The keys of the recipe, then those of its parts."""
    schema = recipe_schema(registry)
    # Stages and strategies are on a page of their own.
    schema["properties"]["stages"] = {"$ref": "#/$defs/stage"}
    parts = [schema["description"], table(schema)]
    for name, part in schema["$defs"].items():
        if name[0].isupper():
            parts += [f"## {spaced(name).capitalize()}"]
            parts += [part["description"], table(part)]
    return "\n\n".join(parts)
