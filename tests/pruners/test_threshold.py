"""The search for a threshold, on walks whose counts are drawn up by hand."""

from __future__ import annotations

import math

import pytest

from swm.model.windows import Window
from swm.pruners.threshold import Walk, search_threshold


class Stairs:
    """Walks that remove `counts[i]` layers from the threshold `steps[i]` up to, not including, the next one."""

    def __init__(self, counts: list[int], steps: list[float], dangling: tuple[int, ...] = ()) -> None:
        self.counts, self.steps, self.dangling = counts, [-math.inf, *steps, math.inf], dangling
        self.tried: list[float] = []

    def __call__(self, threshold: float, limit: int | None) -> Walk:
        self.tried.append(threshold)
        here = max(i for i, step in enumerate(self.steps) if step <= threshold)
        windows = [Window(0, self.counts[here])] if self.counts[here] else []
        return Walk(threshold, windows, self.steps[here + 1], self.steps[here], int(here in self.dangling))


def test_the_highest_threshold_that_removes_enough_wins() -> None:
    stairs = Stairs([5, 4, 3, 3, 2, 0], [0.2, 0.41, 0.57, 0.83, 0.9])
    for target, threshold in ((5, 0.19), (4, 0.4), (3, 0.82), (2, 0.89)):
        proposal = search_threshold(stairs, target)
        assert proposal.windows == [Window(0, target)]
        assert proposal.facts["threshold"] == threshold


def test_it_halves_and_skips_what_is_known() -> None:
    stairs = Stairs(list(range(30, -1, -1)), [0.5 + i / 100 for i in range(30)])
    proposal = search_threshold(stairs, 7)
    assert proposal.windows == [Window(0, 7)]
    assert proposal.facts["thresholds_tried"] == len(stairs.tried) <= 7


def test_steps_closer_than_the_resolution_are_not_told_apart() -> None:
    stairs = Stairs([2, 1, 0], [0.5, 0.500001])
    assert search_threshold(stairs, 1).windows in ([], [Window(0, 1)], [Window(0, 2)])
    assert len(stairs.tried) <= 25


@pytest.mark.parametrize(("target", "removed"), [(1, 0), (2, 0), (3, 0), (4, 5), (5, 5), (8, 5)])
def test_a_jump_over_the_target_is_taken_for_one_layer_too_many_and_no_more(target: int, removed: int) -> None:
    proposal = search_threshold(Stairs([5, 0], [0.6]), target)
    assert sum(window.removed for window in proposal.windows) == removed


def test_fewer_and_more_layers_equally_near_are_decided_by_the_higher_threshold() -> None:
    assert search_threshold(Stairs([4, 2], [0.6]), 3).windows == [Window(0, 2)]


def test_a_gap_that_a_thrown_away_window_leaves_is_searched_below() -> None:
    # With their dangling layer the third and the fifth step would meet a target of 4; only the second one does.
    stairs = Stairs([0, 4, 3, 2, 3, 1], [0.3, 0.4, 0.5, 0.6, 0.7], dangling=(0, 2, 4))
    proposal = search_threshold(stairs, 4)
    assert proposal.windows == [Window(0, 4)]
    assert proposal.facts["threshold"] == 0.39


def test_an_abandoned_walk_is_never_the_result() -> None:
    def walk(threshold: float, limit: int | None) -> Walk:
        if limit is None:
            return Walk(threshold, [Window(2, 4)], 0.9)
        return Walk(threshold, [Window(3, 4)], 0.9, abandoned=True)

    proposal = search_threshold(walk, 6)
    assert proposal.windows == [Window(2, 4)]
    assert proposal.facts["threshold"] == 0.89


@pytest.mark.parametrize(
    ("fail", "passing", "reported"),
    [
        (-math.inf, 1.0, 0.99),
        (-math.inf, 0.7251, 0.72),
        (0.7212, 0.7251, 0.725),
        (0.72, 0.73, 0.72),
        (0.725, 0.7251, 0.725),
    ],
)
def test_the_reported_threshold_is_the_shortest_between_what_fails_and_what_passes(
    fail: float, passing: float, reported: float
) -> None:
    proposal = search_threshold(lambda threshold, limit: Walk(threshold, [Window(0, 1)], passing, fail), 1)
    assert proposal.facts["threshold"] == reported


def test_a_similarity_that_is_not_a_number_neither_passes_nor_counts_as_a_failure_to_learn_from() -> None:
    walk = Walk(0.5)
    assert not walk.passes(lambda windows: math.nan, Window(1, 2))
    assert not walk.passes(lambda windows: 0.5, Window(1, 2))
    assert walk.passes(lambda windows: 0.75, Window(1, 2))
    assert (walk.lowest_pass, walk.highest_fail) == (0.75, 0.5)
