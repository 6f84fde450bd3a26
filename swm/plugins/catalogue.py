"""The list of all registered strategies, for people and for programs."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from typing import Any, Literal, get_args, get_origin

from swm.interfaces.strategy import plain
from swm.plugins.entry import Entry
from swm.plugins.registry import Registry


def catalogue(registry: Registry) -> list[dict[str, Any]]:
    """One entry a strategy: kind, name, summary, parameters with defaults and choices, origin, paper."""
    return [_describe(entry) for entry in registry.entries()]


def _describe(entry: Entry) -> dict[str, Any]:
    strategy = entry.strategy
    parameters = {f.name: _parameter(strategy, f) for f in dataclasses.fields(strategy)}  # type: ignore[arg-type]
    return {
        "kind": strategy.kind,
        "name": strategy.name,
        "summary": (inspect.getdoc(strategy) or "").split("\n\n")[0].replace("\n", " "),
        "parameters": parameters,
        "shown": ", ".join(f"{name}={_shown(p)}" if "default" in p else name for name, p in parameters.items()),
        "origin": entry.origin,
        "paper": strategy.paper,
    }


def _shown(parameter: dict[str, Any]) -> str:
    return "none" if parameter["default"] is None else str(parameter["default"])


def _choices(hint: Any) -> list[Any]:
    """The values that a type names one by one, also inside of a list or beside none."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [choice for inner in get_args(hint) for choice in _choices(inner)]


def _parameter(strategy: type[Any], field: dataclasses.Field[Any]) -> dict[str, Any]:
    hint = typing.get_type_hints(strategy)[field.name]
    described: dict[str, Any] = {"type": str(hint).removeprefix("<class '").removesuffix("'>").replace("typing.", "")}
    choices = _choices(hint)
    if choices:
        described["choices"] = choices
    if field.default is not dataclasses.MISSING:
        described["default"] = plain(field.default)
    elif field.default_factory is not dataclasses.MISSING:
        described["default"] = plain(field.default_factory())
    return described
