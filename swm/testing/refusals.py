"""Values that a strategy must refuse, from the annotations of its fields."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen

from swm.interfaces.strategy import Strategy

# No number, no word, no list, no switch, and no mapping that a parameter could mean.
NEITHER = {"neither": "this", "nor": "that"}


def refusals(cls: type[Strategy]) -> Iterator[tuple[str, Any]]:
    """Parameters with a value beyond each end of their ranges, and with one of no type that they take."""
    yield "no_such_parameter", 1
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.init:
            yield from ((field.name, value) for value in _beyond(hints[field.name]))


def _beyond(hint: Any) -> Iterator[Any]:
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    bare = [get_args(option)[0] if get_origin(option) is Annotated else option for option in options]
    if not any(option is Any or (get_origin(option) or option) in (dict, typing.Mapping) for option in bare):
        yield NEITHER
    if Literal in {get_origin(option) for option in bare} and str not in bare:
        yield "no-such-choice"
    for option, kind in zip(options, bare, strict=True):
        for limit in _limits(option):
            yield from _outside(limit, kind)


def _limits(option: Any) -> list[Any]:
    """The constraints of an annotation, out of pydantic's fields where they stand in one."""
    if get_origin(option) is not Annotated:
        return []
    return [limit for given in get_args(option)[1:] for limit in getattr(given, "metadata", [given])]


def _outside(limit: Any, kind: Any) -> Iterator[Any]:
    number: Any = int if kind is int else float
    if isinstance(limit, Gt):
        yield number(limit.gt)
    elif isinstance(limit, Lt):
        yield number(limit.lt)
    elif isinstance(limit, Ge):
        yield number(limit.ge) - 1
    elif isinstance(limit, Le):
        yield number(limit.le) + 1
    elif isinstance(limit, MinLen) and limit.min_length > 0:
        yield []
    elif isinstance(limit, MaxLen):
        yield [0] * (limit.max_length + 1)
