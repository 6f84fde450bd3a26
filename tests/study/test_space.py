"""The values that a key takes: lists, mappings of names to values, ranges."""

from __future__ import annotations

from collections.abc import Callable

from swm.study.loading import LoadedStudy
from swm.study.space import Range, first_value, labelled_values

Load = Callable[..., LoadedStudy]


def test_values_may_have_names_of_their_own() -> None:
    assert labelled_values({"a": 1, "b": None}, ()) == {"a": 1, "b": None}


def test_the_first_value_of_a_range_is_its_low_end() -> None:
    assert first_value(Range(2.0, 5.0, whole=True)) == 2
    assert isinstance(first_value(Range(2.0, 5.0, whole=True)), int)
    assert first_value(Range(0.5, 1.0)) == 0.5
    assert first_value({"last": {"name": "last"}, "random": "random"}) == {"name": "last"}


def test_ranges_of_whole_numbers_stay_whole(loaded: Load) -> None:
    space = {"seed": {"low": 1, "high": 5}, "budget.ratio": {"low": 0.1, "high": 0.4, "log": True}}
    study = loaded(grid=None, search={"space": space, "trials": 2, "objectives": "layers"})
    assert study.search.space["seed"] == Range(1.0, 5.0, None, False, True)
    assert not study.search.space["budget.ratio"].whole
