"""Whatever type a field has that a recipe can hold: what is written is read back as the equal value."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, make_dataclass
from datetime import date
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Optional

import pytest
from pydantic import Field

from swm.errors import PluginError, RecipeError
from swm.files import yaml_file as yamlfile
from swm.interfaces.strategy import Strategy
from swm.plugins.catalogue import catalogue
from swm.plugins.registry import Registry


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Size(StrEnum):
    SMALL = "small"


class Pair(NamedTuple):
    first: int
    second: str = "b"


@dataclass(frozen=True)
class Point:
    """A part of a recipe that stands in lists."""

    x: int
    marks: tuple[str, ...] = ()


TYPES: list[tuple[Any, Any]] = [
    (tuple[str, ...], ("a", "b")),
    (tuple[int, str], (1, "a")),
    (tuple, (1, "a")),
    (tuple[tuple[int, int], ...], ((1, 2), (3, 4))),
    (tuple[str, ...] | None, ("a",)),
    (Optional[tuple[str, ...]], ("a",)),  # noqa: UP045  as people write it too
    (str | tuple[str, ...], "a"),
    (str | tuple[str, ...], ("a",)),
    (Annotated[tuple[int, ...], Field(min_length=1)], (1,)),
    (tuple[Annotated[int, Field(ge=1)], ...], (1,)),
    (tuple[Literal["a", "b"], ...], ("b",)),
    (list[str], ["a"]),
    (list[tuple[int, ...]], [(1,), (2, 3)]),
    (Sequence[str], ("a", "b")),
    (Sequence[Sequence[int]], ((1,), ())),
    (Mapping[str, Sequence[int]], {"a": (1,)}),
    (Iterable[str], ("a",)),
    (Collection[str], ("a",)),
    (set[str], {"b", "a"}),
    (frozenset[int], frozenset({10, 9})),
    (frozenset[int | str], frozenset({1, "a"})),
    (frozenset[tuple[int, int]], frozenset({(3, 4), (1, 2)})),
    (AbstractSet[str], frozenset({"a"})),
    (deque[int], deque([1, 2])),
    (dict[str, tuple[int, int]], {"a": (1, 2)}),
    (dict[int, float], {1: 0.5}),
    (Mapping[int, frozenset[str]], {1: frozenset({"a"})}),
    (Colour, Colour.RED),
    (tuple[Size, ...], (Size.SMALL,)),
    (Path, Path("a/b")),
    (tuple[Path, ...] | None, (Path("a"),)),
    (Pair, Pair(1, "c")),
    (tuple[Point, ...], (Point(1, ("m",)), Point(2))),
    (Mapping[str, Point], {"a": Point(1)}),
    (Any, [1, "a"]),
]


def registered(hint: Any, **field: Any) -> tuple[Registry, type[Any]]:
    """A registry with a strategy that has one parameter of a type."""
    made = make_dataclass(
        "Toy", [("it", hint)], bases=(Strategy,), namespace={"kind": "toy", "name": "mine"}, frozen=True
    )
    registry = Registry()
    registry.register(made, "mine.py")
    return registry, made


@pytest.mark.parametrize(("hint", "value"), TYPES, ids=[str(hint) for hint, _ in TYPES])
def test_a_value_is_read_back_equal(hint: Any, value: Any) -> None:
    registry, made = registered(hint)
    given = registry.build("toy", made(value))
    spec = given.spec()
    assert getattr(given, "it") == value  # noqa: B009  the class was made here
    for form in (yamlfile.parse(yamlfile.dump(spec))[0], json.loads(json.dumps(spec))):
        again = registry.build("toy", form)
        assert again == given
        assert type(vars(again)["it"]) is type(value)
        assert again.spec() == spec


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (tuple[str, ...], "a", "it of 'mine': found 'a'; input should be a valid tuple"),
        (tuple[str, ...], [1], "it of 'mine': .*input should be a valid string"),
        (tuple[int, int], [1], "it of 'mine': .*field required"),
        (tuple[int, ...], {1, 2}, "input should be a valid tuple"),
        (Annotated[tuple[int, ...], Field(min_length=2)], [1], "at least 2 items"),
        (frozenset[int], ["1"], "valid integer"),
        (set[str], "ab", "it of 'mine': found 'ab'; input should be a valid set"),
        (Sequence[int], "12", "it of 'mine'"),
        (tuple[str, ...], ["\x00"], "no name and no text has the character"),
        (frozenset[int], frozenset({2**64}), "at most 63 bits"),
        (dict[int, float], {"a": 1.0}, "valid integer"),
        (Colour, "rde", "'red' or 'blue'|instance of Colour"),
        (Path, 1, "Path"),
        (tuple[Point, ...], [{"y": 1}], "unknown key 'y'; allowed: marks, x"),
        (tuple[Point, ...], [{"x": "a"}], "x: input should be a valid integer"),
        (tuple[Point, ...], [{}], "missing 1 required positional argument: 'x'"),
    ],
)
def test_another_value_is_refused(hint: Any, value: Any, says: str) -> None:
    registry, _ = registered(hint)
    with pytest.raises(RecipeError, match=says):
        registry.build("toy", {"name": "mine", "it": value})


@pytest.mark.parametrize("hint", [bytes, tuple[Decimal, ...], date | None, complex])
def test_a_type_that_no_recipe_can_hold_is_refused_when_it_is_registered(hint: Any) -> None:
    with pytest.raises(PluginError, match=r"mine\.py: the types of toy 'mine' cannot be used: no recipe can hold a"):
        registered(hint)


def test_a_set_is_written_in_one_order() -> None:
    registry, made = registered(frozenset[str])
    spec = registry.build("toy", made(frozenset(map(str, range(20))))).spec()
    assert spec["it"] == sorted(map(str, range(20)))


def test_a_list_of_strategies_shows_the_default_as_a_recipe_has_it() -> None:
    @dataclass(frozen=True)
    class Toy(Strategy):
        kind = "toy"
        name = "mine"
        of: frozenset[str] = frozenset({"b", "a"})
        colour: Colour = Colour.RED

    registry = Registry()
    registry.register(Toy, "mine.py")
    [entry] = catalogue(registry)
    assert entry["shown"] == "of=['a', 'b'], colour=red"
