"""Building a dataclass from plain data: every value validated, every mistake with its place."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema

from swm.errors import RecipeError, did_you_mean, listed, quoted, reason
from swm.interfaces.strategy import Strategy

KeyPath = tuple[str | int, ...]
BuildStrategy = Callable[[str, Any, KeyPath], Strategy]
T = TypeVar("T")


def fail(path: KeyPath, message: str) -> NoReturn:
    """Raise a RecipeError for the value at `path`."""
    raise RecipeError(message, path)


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
        ready = complete(ready, lambda kind, value: build(kind, value, path))
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in ready:
            fail(path, f"{who} needs {name}")
    checked = _validated(cls, hints, ready, path, who)
    try:
        return cls(**checked)
    except (ValueError, TypeError) as error:
        fail(path, f"{who}: {error}" if issubclass(cls, Strategy) else str(error))


def plain_schema(cls: type[Any], ref_template: str) -> dict[str, Any]:
    """The JSON schema of the fields of the dataclass `cls` that hold plain values, as they are validated.

    Types that JSON does not know are described as anything. `ref_template` is where its `$defs` will stand.
    """
    return _model(cls).model_json_schema(  # type: ignore[arg-type]
        ref_template=ref_template, schema_generator=_Lenient
    )


class _Lenient(GenerateJsonSchema):
    def handle_invalid_for_json_schema(self, schema: CoreSchema, error_info: str) -> JsonSchemaValue:
        return {}


def check_fields(cls: type[Any]) -> None:
    """Raise whatever the field annotations of the dataclass `cls` raise when values are validated against them."""
    _model(cls)  # type: ignore[arg-type]


def _words(name: str) -> str:
    """`perplexity protocol` from `PerplexityProtocol`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.lstrip("_")).lower()


def _names(cls: type[Any]) -> list[str]:
    return [f.name for f in dataclasses.fields(cls)]


def _options(hint: Any) -> list[Any]:
    """The types of a union, without None and without annotations."""
    if get_origin(hint) is typing.Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        return [option for option in get_args(hint) if option is not type(None)]
    return [hint]


def strategy_kind(hint: Any) -> str | None:
    """The kind of the strategy that a field of this type holds, if it holds one."""
    for option in _options(hint):
        if inspect.isclass(option) and issubclass(option, Strategy):
            return option.kind
    return None


def plain_dataclass(hint: Any) -> type[Any] | None:
    """The dataclass that a field of this type holds, if it holds one."""
    for option in _options(hint):
        if inspect.isclass(option) and dataclasses.is_dataclass(option):
            return option
    return None


def _validated(
    cls: type[Any], hints: dict[str, Any], values: dict[str, Any], path: KeyPath, who: str
) -> dict[str, Any]:
    """Validate the fields of a dataclass that hold plain values.

    Args:
        cls: The dataclass.
        hints: The types of its fields, with their annotations.
        values: Its fields by name; strategies and nested dataclasses are made already.
        path: Where `values` stand in the recipe.
        who: What messages call the dataclass.

    Returns:
        All fields by name.

    Raises:
        RecipeError: With the path of a value that its type does not take.
    """
    plain = {k: v for k, v in values.items() if not _is_ready(hints[k])}
    model = _model(cls)  # type: ignore[arg-type]
    try:
        checked = model.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = [str(part) for part in first["loc"]]
        name = where[0]
        fail((*path, name), f"{name} of {who}: found {quoted(first['input'])}; {reason(first)}")
    for name, value in plain.items():
        wrong = _unusable(value)
        if wrong:
            fail((*path, name), f"{name} of {who}: found {quoted(value)}; {wrong}")
    return {k: _fixed(hints[k], getattr(checked, k)) if k in plain else v for k, v in values.items()}


def _unusable(value: Any) -> str:
    """Why no computer can use the value, or anything in it; empty where it can."""
    if isinstance(value, str):
        return "no name and no text has the character U+0000" if "\x00" in value else ""
    if isinstance(value, int):
        return "" if abs(value) < 2**63 else "a whole number has at most 63 bits"
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    reasons = map(_unusable, inner) if isinstance(inner, list | tuple) else ()
    return next(filter(None, reasons), "")


def _fixed(hint: Any, value: Any) -> Any:
    """A list as a tuple where any sequence will do, so that equal recipes are equal however they were written."""
    anything = any(get_origin(option) is Sequence for option in _options(hint))
    return tuple(value) if anything and isinstance(value, list) else value


def _is_ready(hint: Any) -> bool:
    return strategy_kind(hint) is not None or plain_dataclass(hint) is not None


@functools.cache
def _model(cls: type[Any]) -> type[BaseModel]:
    """A pydantic model of the fields that hold plain values; everything is optional, defaults stay the dataclass's."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if strategy_kind(hint) is None and plain_dataclass(hint) is None and field.init:
            fields[field.name] = (hint, None)
    return create_model(cls.__name__, __config__=ConfigDict(extra="ignore", strict=True, allow_inf_nan=False), **fields)
