"""The JSON schema of recipes, made of the classes that recipes are validated with."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from swm.errors import SwmError
from swm.files.outputs import output_file
from swm.files.writing import write_json
from swm.interfaces.stage import Stage
from swm.interfaces.strategy import Strategy, plain
from swm.measure.acceptance import Acceptance, MeasureLimit
from swm.measure.protocol import EvaluationRecipe
from swm.plugins.entry import Entry
from swm.plugins.registry import Registry
from swm.plugins.validation import plain_dataclass, plain_schema, strategy_kind
from swm.recipe.healing import Healing
from swm.recipe.recipe import CalibrationRecipe, Recipe
from swm.recipe.rounds import HEAL

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
# What `from_value` of some strategy may understand: anything that stands without a name.
BARE: Schema = {"type": ["string", "array", "number", "boolean"]}
NULL: Schema = {"type": "null"}


def recipe_schema(registry: Registry) -> Schema:
    """What a recipe may hold with these strategies, in the dialect 2020-12.

    Every recipe that loads is valid. The converse does not hold for what depends on several keys, such as a stage that
    has neither a target nor a budget to take one from.
    """
    return SchemaWriter(registry).recipe()


def write_schema(schema: Schema, file: Path) -> None:
    """Write it, over what stood there. Raises SwmError when that cannot be done."""
    try:
        write_json(output_file(file, "schema"), schema)
    except OSError as error:
        raise SwmError(f"schema {file} cannot be written: {error.strerror or error}") from None


class SchemaWriter:
    """Schemas of dataclasses; what they share stands once, in `definitions`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.definitions: dict[str, Schema] = {}

    def recipe(self) -> Schema:
        """The schema of a whole recipe."""
        whole = self.mapping_of(Recipe, optional=("calibration",))
        keys = whole["properties"]
        keys["stages"] = {"type": "array", "minItems": 1, "items": self._stage(), "description": "In their order."}
        self.definitions[Healing.__name__]["properties"]["stages"]["items"] = self._stage()
        tracker = self._kind("tracker")
        keys["trackers"] = {"anyOf": [tracker, {"type": "array", "items": tracker}]}
        # `build_recipe` fills in the text, and takes short forms of two values.
        self.definitions[CalibrationRecipe.__name__] = self.mapping_of(CalibrationRecipe, optional=("text",))
        measured = self.definitions[EvaluationRecipe.__name__]["properties"]
        measured["tasks"] = {"anyOf": [{"type": "string"}, measured["tasks"]]}
        measured["speed"] = {"anyOf": [{"type": "boolean"}, measured["speed"]]}
        measure = self._kind("measure")
        measured["measures"] = {"anyOf": [measure, {"type": "array", "items": measure}, NULL]}
        limit = self.defined(MeasureLimit.__name__, MeasureLimit)
        limits = {"type": "object", "additionalProperties": limit}
        self.definitions[Acceptance.__name__]["properties"]["measures"] = {"anyOf": [limits, NULL]}
        return {"$schema": DIALECT, "title": "A recipe of swm", **whole, "$defs": self.definitions}

    def _stage(self) -> Schema:
        """A mapping with one key, the stage's name."""
        properties = {
            entry.strategy.name: self._below(entry)
            for entry in self._registry.entries()
            if entry.strategy.kind == "stage"
        }
        return {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        }

    def _below(self, entry: Entry) -> Schema:
        """What stands below a stage's name: its parameters, or the strategy that it holds."""
        holds = getattr(entry.strategy, "holds", "")
        if holds:
            return self._kind(holds)
        reference = self.defined(f"stage.{entry.strategy.name}", entry.strategy)
        properties = self.definitions[f"stage.{entry.strategy.name}"]["properties"]
        if "target" in properties:
            properties.setdefault(HEAL, {"anyOf": [self.defined(Healing.__name__, Healing), NULL]})
        return reference

    def _kind(self, kind: str) -> Schema:
        """A strategy of that kind: a name, or a mapping with name and parameters."""
        reference = {"$ref": f"#/$defs/{kind}"}
        if kind in self.definitions:
            return reference
        self.definitions[kind] = {}
        entries = [entry for entry in self._registry.entries() if entry.strategy.kind == kind]
        choices = [self._named(entry.strategy) for entry in entries]
        alone = [entry.strategy.name for entry in entries if not _required(entry.strategy)]
        choices += [self._short(entry.strategy) for entry in entries if entry.strategy.short_field]
        others = [BARE] if any(_takes_values(entry.strategy) for entry in entries) else []
        others += [NULL] if any(entry.strategy.is_default for entry in entries) else []
        self.definitions[kind] = {"anyOf": [{"enum": alone}, *choices, *others]}
        return reference

    def _short(self, strategy: type[Strategy]) -> Schema:
        """The short form of a strategy: its name as the key of what its `short_field` holds."""
        properties = dict(self.definitions[f"{strategy.kind}.{strategy.name}"]["properties"])
        del properties["name"]
        held = properties.pop(strategy.short_field)
        return {
            "type": "object",
            "properties": {strategy.name: held, **properties},
            "required": [strategy.name],
            "additionalProperties": False,
        }

    def _named(self, strategy: type[Strategy]) -> Schema:
        name = f"{strategy.kind}.{strategy.name}"
        if issubclass(strategy, Stage):
            # In `stages` its name is the key above the settings, which have none.
            name += ".named"
        reference = self.defined(name, strategy)
        definition = self.definitions[name]
        definition["properties"] = {"name": {"const": strategy.name}, **definition["properties"]}
        definition["required"] = ["name", *definition.get("required", [])]
        return reference

    def defined(self, name: str, cls: type[Any]) -> Schema:
        """A reference to the definition of a dataclass, which is written when it is asked for first."""
        if name not in self.definitions:
            self.definitions[name] = {}
            self.definitions[name].update(self.mapping_of(cls))
        return {"$ref": f"#/$defs/{name}"}

    def mapping_of(self, cls: type[Any], optional: Sequence[str] = ()) -> Schema:
        """A mapping of the fields of a dataclass."""
        written = plain_schema(cls, f"#/$defs/{cls.__name__}.{{model}}")
        for name, definition in written.get("$defs", {}).items():
            self.definitions[f"{cls.__name__}.{name}"] = definition
        hints = typing.get_type_hints(cls, include_extras=True)
        properties = {
            field.name: self._field(hints[field.name], written["properties"].get(field.name, {}), field)
            for field in dataclasses.fields(cls)
            if field.init
        }
        for name, value in (_filled(cls, self._name) or {}).items():
            if name in _without_default(cls) and isinstance(value, str):
                properties[name] = {**properties[name], "default": value}
        required = [name for name in _required(cls) if name not in optional]
        described: Schema = {"type": "object", "description": _described(cls), "properties": properties}
        return {**described, **({"required": required} if required else {}), "additionalProperties": False}

    def _name(self, kind: str, value: Any) -> Any:
        """The name of a strategy in its place."""
        return self._registry.default(kind) if value is None else value

    def _field(self, hint: Any, written: Schema, field: dataclasses.Field[Any]) -> Schema:
        kind, nested = strategy_kind(hint), plain_dataclass(hint)
        if kind is not None:
            return _nullable(self._kind(kind), hint)
        if nested is not None:
            return _nullable(self.defined(nested.__name__, nested), hint)
        kept = {key: value for key, value in written.items() if key not in ("title", "default")}
        if field.default is dataclasses.MISSING or field.default is None:
            return kept
        return {**kept, "default": plain(field.default)}


def _nullable(held: Schema, hint: Any) -> Schema:
    return {"anyOf": [held, NULL]} if type(None) in typing.get_args(hint) else held


def _takes_values(strategy: type[Strategy]) -> bool:
    return getattr(strategy.from_value, "__func__", None) is not getattr(Strategy.from_value, "__func__", None)


def _without_default(cls: type[Any]) -> list[str]:
    missing = dataclasses.MISSING
    return [f.name for f in dataclasses.fields(cls) if f.init and f.default is missing and f.default_factory is missing]


def _required(cls: type[Any]) -> list[str]:
    """The fields that have no default, and that `complete` does not fill in by itself."""
    names = _without_default(cls)
    filled = _filled(cls, lambda kind, value: value) if names else {}
    return [] if filled is None else [name for name in names if name not in filled]


def _filled(cls: type[Any], build: Callable[[str, Any], Any]) -> dict[str, Any] | None:
    """What `complete` makes of nothing; None where it fails."""
    complete = getattr(cls, "complete", None)
    try:
        return {} if complete is None else complete({}, build)
    except Exception:  # a stranger's method, asked what it was not written for
        return None


def _described(cls: type[Any]) -> str:
    text = inspect.getdoc(cls) or ""
    paper = getattr(cls, "paper", "")
    return f"{text}\n\n{paper}".strip()
