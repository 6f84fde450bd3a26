"""What the fields of a dataclass hold: strategies, other dataclasses, or plain values, which pydantic validates."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections import deque
from typing import Any, NoReturn, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema

from swm.errors import RecipeError, quoted, reason
from swm.interfaces.strategy import Strategy
from swm.plugins.field_types import field_type

KeyPath = tuple[str | int, ...]


def fail(path: KeyPath, message: str) -> NoReturn:
    """Raise a RecipeError for the value at `path`."""
    raise RecipeError(message, path)


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


def _options(hint: Any) -> list[Any]:
    """The types of a union, without None and without annotations."""
    if get_origin(hint) is typing.Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        return [option for option in get_args(hint) if option is not type(None)]
    return [hint]


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


def validated(cls: type[Any], hints: dict[str, Any], values: dict[str, Any], path: KeyPath, who: str) -> dict[str, Any]:
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
    return {k: getattr(checked, k) if k in plain else v for k, v in values.items()}


def _unusable(value: Any) -> str:
    """Why no computer can use the value, or anything in it; empty where it can."""
    if isinstance(value, str):
        return "no name and no text has the character U+0000" if "\x00" in value else ""
    if isinstance(value, int):
        return "" if abs(value) < 2**63 else "a whole number has at most 63 bits"
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    reasons = map(_unusable, inner) if isinstance(inner, list | tuple | set | frozenset | deque) else ()
    return next(filter(None, reasons), "")


def _is_ready(hint: Any) -> bool:
    return strategy_kind(hint) is not None or plain_dataclass(hint) is not None


def _model_of(cls: type[Any]) -> type[BaseModel]:
    return _model(cls)  # type: ignore[arg-type]


@functools.cache
def _model(cls: type[Any]) -> type[BaseModel]:
    """A pydantic model of the fields that hold plain values; everything is optional, defaults stay the dataclass's."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if strategy_kind(hint) is None and plain_dataclass(hint) is None and field.init:
            fields[field.name] = (field_type(hint, _model_of), None)
    return create_model(cls.__name__, __config__=ConfigDict(extra="ignore", strict=True, allow_inf_nan=False), **fields)
