"""The JSON schema of study files."""

from __future__ import annotations

from swm.plugins.registry import Registry
from swm.recipe.schema import DIALECT, Schema, SchemaWriter
from swm.study.description import Search, Study
from swm.study.figures import Figure
from swm.study.loading import presets
from swm.study.space import Range


def study_schema(registry: Registry) -> Schema:
    """What a study file may hold. Its recipe is any mapping: what is varied in it may be missing there."""
    writer = SchemaWriter(registry)
    whole = writer.mapping_of(Study, optional=("executor", "recipe"))
    keys, words = whole["properties"], {"type": "string"}
    keys["preset"] = {"enum": sorted(presets()), "description": "The study that this one changes."}
    keys["recipe"] = {"anyOf": [words, {"type": "object"}], "description": "A recipe, or the path of one."}
    figure = writer.defined(Figure.__name__, Figure)
    y = writer.definitions[Figure.__name__]["properties"]
    for key in ("y", "by"):
        y[key] = {"anyOf": [words, y[key]]}
    keys["figures"] = {"type": "array", "items": figure}
    space = writer.definitions[Search.__name__]["properties"]
    searched = writer.defined(Range.__name__, Range)
    writer.definitions[Range.__name__]["properties"].pop("whole")
    values = [searched, {"type": "array", "minItems": 1}, {"type": "object", "minProperties": 1}]
    space["space"] = {"type": "object", "minProperties": 1, "additionalProperties": {"anyOf": values}}
    space["objectives"] = {"anyOf": [words, space["objectives"]]}
    keys["grid"] = {**keys["grid"], "additionalProperties": {"anyOf": values[1:]}}
    return {"$schema": DIALECT, "title": "A study of swm", **whole, "$defs": writer.definitions}
