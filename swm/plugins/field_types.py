"""How the types of fields are validated: what YAML and JSON have no type for is made of what they hold in its place."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections import deque
from collections.abc import (
    Callable,
    Collection,
    Container,
    Iterable,
    Mapping,
    MutableMapping,
    MutableSet,
    Reversible,
    Sequence,
)
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from inspect import isclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, Strict, ValidationError
from pydantic_core import PydanticCustomError

from swm.errors import reason, unknown

# What the items of a dataclass in a list are validated with.
ModelOf = Callable[[type[Any]], type[BaseModel]]
# Any sequence will do for these; a tuple is the one that is kept.
SEQUENCES = (Sequence, Iterable, Collection, Container, Reversible)
# What lists in a file are made into.
MADE: dict[Any, type[Any]] = {
    tuple: tuple,
    deque: deque,
}
SETS: dict[Any, type[Any]] = {set: set, frozenset: frozenset, AbstractSet: frozenset, MutableSet: set}
# What no recipe can hold, and what can stand for it.
NOT_IN_FILES: tuple[tuple[type[Any], str], ...] = (
    (bytes, "str"),
    (bytearray, "str"),
    (complex, "two floats"),
    (Decimal, "float"),
    (date, "str"),
    (time, "str"),
    (timedelta, "float"),
)


def field_type(hint: Any, model_of: ModelOf) -> Any:
    """The type of a field with what turns the lists, texts and mappings of a file into its values.

    Lists become tuples or sets, at any depth, and equal recipes are equal however they were written. Texts become
    paths and members of an Enum, mappings become dataclasses.

    Args:
        hint: The annotation of the field.
        model_of: The pydantic model that the fields of a dataclass are validated with.

    Returns:
        The type for pydantic.

    Raises:
        TypeError: No recipe can hold values of the type.
    """
    if get_origin(hint) is Annotated:
        inner, *beside = get_args(hint)
        plain, *own = _apart(field_type(inner, model_of))
        # The first to run is the last one named.
        return Annotated[(plain, *beside, *own)]
    if get_origin(hint) in (Union, types.UnionType):
        return Union[tuple(field_type(option, model_of) for option in get_args(hint))]  # noqa: UP007
    origin: Any = get_origin(hint) or hint
    args = tuple(_argument(each, model_of) for each in get_args(hint))
    if origin in SEQUENCES:
        return Annotated[Sequence[args or Any], AfterValidator(tuple)]  # type: ignore[misc]
    if origin in MADE:
        made: Any = MADE[origin]
        return Annotated[made[args] if args else made, BeforeValidator(_from_list(made))]
    if origin in SETS:
        # The items of a list may be lists themselves, of which only what they become can be in a set.
        kept: Any = SETS[origin]
        return Annotated[kept[args] if args else kept, Strict(False)]
    if args and args[0] in (int, float) and origin in (dict, Mapping, MutableMapping):
        return Annotated[origin[args], BeforeValidator(_with_numbers(args[0]))]
    return _of_class(origin, hint, args, model_of) if isclass(origin) else hint


def _apart(hint: Any) -> tuple[Any, ...]:
    """A type and its annotations."""
    return get_args(hint) if get_origin(hint) is Annotated else (hint,)


def _argument(hint: Any, model_of: ModelOf) -> Any:
    return hint if hint is Ellipsis or get_origin(hint) is typing.Literal else field_type(hint, model_of)


def _of_class(origin: type[Any], hint: Any, args: tuple[Any, ...], model_of: ModelOf) -> Any:
    for refused, instead in NOT_IN_FILES:
        if issubclass(origin, refused):
            raise TypeError(f"no recipe can hold a {origin.__name__}; take {instead}")
    if issubclass(origin, Enum):
        return Annotated[hint, BeforeValidator(lambda value: _member(origin, value))]
    if issubclass(origin, Path):
        return Annotated[hint, BeforeValidator(lambda value: Path(value) if isinstance(value, str) else value)]
    if dataclasses.is_dataclass(origin):
        return Annotated[hint, BeforeValidator(lambda value: _part(origin, value, model_of))]
    return origin[args] if args and origin is not type else hint


def _from_list(made: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A set in Python has no order, so only lists and tuples are taken for one another."""
    return lambda value: made(value) if isinstance(value, list | tuple) else value


def _with_numbers(kind: type[int | float]) -> Callable[[Any], Any]:
    """In JSON the keys of a mapping are texts."""

    def number(key: Any) -> Any:
        try:
            return kind(key) if isinstance(key, str) else key
        except ValueError:
            return key

    return lambda value: {number(key): item for key, item in value.items()} if isinstance(value, dict) else value


def _member(kind: type[Enum], value: Any) -> Any:
    return next((member for member in kind if type(member.value) is type(value) and member.value == value), value)


def _part(cls: type[Any], value: Any, model_of: ModelOf) -> Any:
    """A dataclass in a list from the mapping that stands for it."""
    if not isinstance(value, dict):
        return value
    names = [field.name for field in dataclasses.fields(cls) if field.init]
    try:
        for name in value:
            if name not in names:
                raise TypeError(unknown("key", name, names))
        checked = model_of(cls).model_validate(value)
        return cls(**{name: getattr(checked, name) for name in value})
    except ValidationError as error:
        first = error.errors()[0]
        text = f"{'.'.join(map(str, first['loc']))}: {reason(first)}"
    except (ValueError, TypeError) as error:
        text = str(error)
    raise PydanticCustomError("part", "{text}", {"text": text})
