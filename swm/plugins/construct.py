"""Building a dataclass from plain data: every value validated, every mistake with its place."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable
from typing import Any, TypeVar, get_args

from swm.errors import SwmError, did_you_mean, listed, quoted
from swm.interfaces.strategy import Strategy
from swm.plugins.validation import KeyPath, fail, plain_dataclass, strategy_kind, validated

BuildStrategy = Callable[[str, Any, KeyPath], Strategy]
T = TypeVar("T")


def construct(cls: type[T], values: dict[str, Any], build: BuildStrategy, path: KeyPath = ()) -> T:
    """Make an instance of a dataclass from plain data.

    Args:
        cls: The dataclass. Fields whose type is a kind of strategy take names and mappings.
        values: Its fields by name.
        build: Makes a strategy from its kind, a value and a path.
        path: Where `values` stand in the recipe.

    Returns:
        The instance, every value validated.

    Raises:
        RecipeError: With the path of the key, the value, what is allowed and the nearest key.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    who = getattr(cls, "name", None)
    who = f"'{who}'" if isinstance(who, str) else str(path[-1]) if path else _words(cls.__name__)
    for key in values:
        if key not in fields:
            allowed = listed(fields)
            fail(
                (*path, str(key)),
                f"unknown parameter {quoted(str(key))} of {who}; allowed: {allowed}.{did_you_mean(key, fields)}",
            )
    ready = dict(values)
    for name, value in values.items():
        kind = strategy_kind(hints[name])
        nested = plain_dataclass(hints[name])
        if value is None and type(None) in get_args(hints[name]):
            continue
        if kind is not None:
            ready[name] = build(kind, value, (*path, name))
        elif nested is not None:
            if isinstance(value, nested):
                value = {key: item for key, item in vars(value).items() if item is not None}
            if not isinstance(value, dict):
                fail((*path, name), f"found {quoted(value)}; {name} is a mapping with {listed(_names(nested))}")
            ready[name] = construct(nested, value, build, (*path, name))
    complete = getattr(cls, "complete", None)
    if complete is not None:
        try:
            ready = complete(ready, lambda kind, value: build(kind, value, path))
        except SwmError as error:
            error.path = error.path or path
            raise
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in ready:
            fail(path, f"{who} needs {name}")
    checked = validated(cls, hints, ready, path, who)
    try:
        return cls(**checked)
    except (ValueError, TypeError) as error:
        fail(path, f"{who}: {error}" if issubclass(cls, Strategy) else str(error))


def _words(name: str) -> str:
    """`perplexity protocol` from `PerplexityProtocol`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.lstrip("_")).lower()


def _names(cls: type[Any]) -> list[str]:
    return [f.name for f in dataclasses.fields(cls)]
