"""The set of windows with the least sum of costs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest

from swm.errors import PlanError
from swm.model.windows import Window, check_windows, removed_layers
from swm.pruners.best_windows import BestWindows, cheapest, worth_measuring


class Costs:
    """Answers with made-up losses; a set of windows costs the sum of its windows."""

    seed = 0
    sizes = None

    def __init__(self, layers: int, target: int, seed: int) -> None:
        self.layers, self.target = layers, target
        chance = random.Random(seed)
        self.costs = {
            Window(first, last): chance.random() * (last - first) ** 0.5
            for first in range(layers)
            for last in range(first + 1, layers)
        }
        self.asked: list[tuple[Window, ...]] = []

    def loss(self, windows: Sequence[Window]) -> float:
        self.asked.append(tuple(windows))
        return 3.0 + sum(self.costs[w] for w in windows)

    def trial(self, windows: Sequence[Window], above: float | None = None) -> float:
        return 1.0 - sum(self.costs[w] for w in windows)

    def local(self, window: Window) -> float:
        raise NotImplementedError

    def compare(self, lower: int, upper: int) -> float:
        raise NotImplementedError

    def commit(self, windows: Sequence[Window]) -> None:
        raise NotImplementedError


def sums(costs: dict[Window, float], layers: int, target: int) -> list[float]:
    """Of every set of disjoint windows, in order."""
    found = []
    for count in range(1, target + 1):
        for chosen in itertools.combinations(costs, count):
            if removed_layers(chosen) == target:
                try:
                    check_windows(chosen, layers)
                except PlanError:
                    continue
                found.append(sum(costs[w] for w in chosen))
    return sorted(found)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("layers", "target", "longest"), [(6, 3, 3), (7, 4, 2), (5, 4, 4)])
def test_no_other_set_costs_less(seed: int, layers: int, target: int, longest: int) -> None:
    context = Costs(layers, target, seed)
    proposal = BestWindows(longest=longest).propose(context)
    check_windows(proposal.windows, layers)
    assert removed_layers(proposal.windows) == target
    allowed = {w: c for w, c in context.costs.items() if w.removed <= longest}
    assert sum(context.costs[w] for w in proposal.windows) == pytest.approx(sums(allowed, layers, target)[0])
    assert sum(proposal.facts["costs"].values()) == pytest.approx(sums(allowed, layers, target)[0], abs=1e-5)


def test_each_window_is_asked_for_once_and_the_effort_says_so() -> None:
    context = Costs(12, 3, 0)
    pruner = BestWindows(protect_first=1, protect_last=2)
    pruner.propose(context)
    assert len(context.asked) == pruner.effort(12, 3)
    alone = [windows[0] for windows in context.asked[: -pruner.candidates] if windows]
    assert len(alone) == len(set(alone))
    assert set(alone) == {
        Window(first, last) for first in range(1, 10) for last in range(first + 1, 10) if last - first <= 3
    }


def test_the_criterion_may_be_the_similarity() -> None:
    context = Costs(6, 2, 3)
    assert BestWindows(criterion="similarity").propose(context).windows == BestWindows().propose(context).windows
    assert context.asked[0] == ()


@pytest.mark.parametrize(
    ("pruner", "layers", "expected"),
    [
        (BestWindows(), 30, 25),  # 0-6, 7-13, 14-20, 21-27, 28-29
        (BestWindows(longest=1), 7, 3),
        (BestWindows(longest=40), 30, 29),
        (BestWindows(protect_first=2, protect_last=3), 8, 2),
        (BestWindows(protect_first=4, protect_last=4), 6, 0),
    ],
)
def test_the_capacity_is_what_the_windows_can_remove(pruner: BestWindows, layers: int, expected: int) -> None:
    assert pruner.capacity(layers) == expected
    if 0 < expected < 6:
        proposal = pruner.propose(Costs(layers, expected, 1))
        assert removed_layers(proposal.windows) == expected


def test_equal_costs_take_the_lower_layers() -> None:
    costs = {Window(i, i + 1): 1.0 for i in range(5)}
    assert cheapest(costs, 6, 2) == [(Window(0, 1), Window(2, 3))]


@pytest.mark.parametrize("seed", range(6))
def test_the_next_best_sets_follow_in_order(seed: int) -> None:
    costs = Costs(6, 3, seed).costs
    found = cheapest(costs, 6, 3, 10)
    assert len(set(found)) == 10
    assert all(removed_layers(windows) == 3 for windows in found)
    assert [sum(costs[w] for w in windows) for windows in found] == pytest.approx(sums(costs, 6, 3)[:10])


@pytest.mark.parametrize("seed", range(6))
def test_the_best_set_of_every_number_of_windows_is_a_candidate(seed: int) -> None:
    costs = Costs(9, 4, seed).costs
    found = worth_measuring(costs, 9, 4, 6)
    assert len(set(found)) == 6
    assert [sum(costs[w] for w in windows) for windows in found] == sorted(
        sum(costs[w] for w in windows) for windows in found
    )
    everything = cheapest(costs, 9, 4, 10_000)
    for number in (1, 2, 3, 4):
        assert next(windows for windows in everything if len(windows) == number) in found
    assert set(everything[:2]) <= set(found)
    few = worth_measuring(costs, 9, 4, 2)
    assert few[0] == everything[0]
    assert len(few[0]) != len(few[1])


def test_many_windows_that_hurt_together_lose_to_one() -> None:
    class Together(Costs):
        def loss(self, windows: Sequence[Window]) -> float:
            return super().loss(windows) + 5.0 * max(0, len(windows) - 1)

    context = Together(12, 5, 2)
    assert len(cheapest({w: c for w, c in context.costs.items() if w.removed <= 6}, 12, 5)[0]) > 1
    assert len(BestWindows(candidates=5).propose(context).windows) == 1


def test_a_set_whose_windows_hurt_each_other_is_passed_over() -> None:
    class Hurting(Costs):
        def loss(self, windows: Sequence[Window]) -> float:
            return super().loss(windows) + (10.0 if tuple(windows) == self.worst else 0.0)

        worst: tuple[Window, ...] = ()

    context = Hurting(7, 3, 5)
    context.worst, second = cheapest(context.costs, 7, 3, 2)
    assert len(context.worst) > 1
    proposal = BestWindows().propose(context)
    assert proposal.windows == second
    assert proposal.facts["candidate"] == 1
    assert BestWindows(candidates=1).propose(context).windows == context.worst


def test_a_window_without_a_number_is_not_taken() -> None:
    context = Costs(6, 2, 5)
    first = BestWindows().propose(context).windows
    for window in first:
        context.costs[window] = float("nan")
    assert not set(first) & set(BestWindows().propose(context).windows)
