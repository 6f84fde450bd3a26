"""Targets in layers, parameters and ratios."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swm.errors import BudgetError
from swm.interfaces.target import Target, mean
from swm.model.shape import ModelShape, achieved
from swm.recipe.budget import Budget

quick = settings(max_examples=200, deadline=None, derandomize=True)
# Ten layers of 100 parameters, and 200 elsewhere.
MODEL = ModelShape(1200, (100,) * 10)


def layers(target: Target, original: ModelShape = MODEL, current: ModelShape = MODEL, capacity: int = 8) -> int:
    return target.whole_layers(original, current, capacity, "sliding-window")


@pytest.mark.parametrize(
    ("target", "count"),
    [
        (Target(layers=1), 1),
        (Target(layers=8), 8),
        (Target(params=300), 3),
        (Target(params=349), 3),
        (Target(params=351), 4),
        (Target(params=1), 1),
        (Target(ratio=0.25), 3),
        (Target(ratio=0.2), 2),
        (Target(ratio=0.22), 3),
        (Target(ratio=0.001), 1),
    ],
)
def test_a_target_is_the_nearest_number_of_whole_layers_and_at_least_one(target: Target, count: int) -> None:
    assert layers(target) == count


@quick
@given(each=st.integers(1, 10**9), count=st.integers(1, 100), rest=st.integers(0, 10**9), ratio=st.floats(0.01, 0.99))
def test_no_other_number_of_layers_is_nearer(each: int, count: int, rest: int, ratio: float) -> None:
    shape = ModelShape(each * count + rest, (each,) * count)
    wanted = ratio * shape.parameters
    got = Target(ratio=ratio).whole_layers(shape, shape, 10**12, "last")
    assert got >= 1
    assert abs(got * each - wanted) <= min(abs(n * each - wanted) for n in (got + 1, max(1, got - 1))) * (1 + 1e-9)
    assert Target(params=max(1, round(got * each))).whole_layers(shape, shape, 10**12, "last") == got


def test_a_ratio_is_of_the_original_model_and_the_layers_are_those_it_has_now() -> None:
    # After the layers have been narrowed to 60 parameters, a fifth of the original 1200 are four layers.
    narrowed = ModelShape(680, (60,) * 8)
    assert layers(Target(ratio=0.2), current=narrowed) == 4
    assert layers(Target(params=240), current=narrowed) == 4
    assert layers(Target(layers=4), current=narrowed) == 4


def test_layers_of_different_sizes_count_as_average_ones() -> None:
    uneven = ModelShape(700, (100, 300, 200))
    assert mean(uneven.layer_parameters) == 200
    assert layers(Target(params=390), uneven, uneven) == 2
    assert Target(layers=2).parameters(uneven) == 400


def test_the_number_of_parameters_to_remove_is_known_in_every_unit() -> None:
    assert Target(layers=3).parameters(MODEL) == 300
    assert Target(params=77).parameters(MODEL) == 77
    assert Target(ratio=0.25).parameters(MODEL) == 300


def test_an_impossible_target_says_what_is_possible() -> None:
    with pytest.raises(BudgetError) as caught:
        layers(Target(ratio=0.9))
    assert str(caught.value) == (
        "target ratio: 0.9 asks to remove 11 of 10 layers; 'sliding-window' can remove at most 8 here "
        "(66.7% of the parameters)"
    )
    with pytest.raises(BudgetError, match=r"target layers: 9 asks to remove 9 of 10 layers"):
        layers(Target(layers=9))
    with pytest.raises(BudgetError, match=r"can remove at most 0 here \(0\.0% of the parameters\)"):
        layers(Target(layers=1), capacity=-2)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({}, "nothing"),
        ({"layers": 2, "ratio": 0.1}, "layers and ratio"),
        ({"layers": 2, "params": 5, "ratio": 0.1}, "layers and params and ratio"),
    ],
)
def test_a_target_is_said_in_exactly_one_unit(values: dict[str, Any], found: str) -> None:
    with pytest.raises(ValueError, match=f"exactly one of layers, params, ratio, experts, blocks, .*; found {found}$"):
        Target(**values)


def test_what_was_achieved_is_told_in_every_unit() -> None:
    before, after = ModelShape(1000, (100,) * 8), ModelShape(700, (100,) * 5)
    assert achieved(MODEL, before, after) == {"layers": 3, "params": 300, "ratio": 0.25}


def test_a_stage_that_removes_layers_and_widths_has_no_part_in_the_depth_share() -> None:
    shape, budget = ModelShape(700, (100, 300, 200)), Budget(params=100, depth_share=0.25)
    layers, widths, both = {"layers"}, {"widths"}, {"layers", "widths"}
    assert budget.for_next([layers, both], shape, 0) == pytest.approx(25)
    assert budget.for_next([both, layers], shape, 0) == pytest.approx(75)
    assert budget.for_next([widths, both], shape, 20) == pytest.approx(40)
    assert budget.for_next([both], shape, 0) == pytest.approx(100)
    assert budget.for_next([layers], shape, 60) == pytest.approx(40)


def test_several_depth_stages_have_the_depth_share_together() -> None:
    shape, budget = ModelShape(700, (100, 300, 200)), Budget(params=100, depth_share=0.6)
    layers, widths = frozenset({"layers"}), frozenset({"widths"})
    assert budget.for_next([layers, layers, widths], shape, 0) == pytest.approx(30)
    assert budget.for_next([layers, widths], shape, 30, [layers]) == pytest.approx(30)
    assert budget.for_next([widths], shape, 60, [layers, layers]) == pytest.approx(40)
    # What the first removed too much, the others remove less, in their proportions.
    assert budget.for_next([layers, widths], shape, 65, [layers]) == pytest.approx(15)
