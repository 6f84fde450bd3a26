"""LaCo against a transcription of its loop, on thousands of made-up similarities."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from swm.model.windows import Window, check_windows, removed_layers
from swm.pruners.laco import LaCo

Model = list[list[int]]
Similarity = Callable[[Model], float]


@dataclass
class Context:
    """The part of `DepthContext` that the pruner uses, with similarities out of a function of the merged model."""

    similarity: Similarity
    layers: int
    target: int | None = None
    asked: list[tuple[Window, ...]] = field(default_factory=list)

    def trial(self, windows: Sequence[Window], above: float | None = None) -> float:
        self.asked.append(check_windows(windows, self.layers))
        return self.similarity(merged(windows, self.layers))


def merged(windows: Sequence[Window], layers: int) -> Model:
    model = [[i] for i in range(layers)]
    for window in sorted(windows, reverse=True):
        model[window.first : window.last + 1] = [list(range(window.first, window.last + 1))]
    return model


def released(
    similarity: Similarity, layers: int, threshold: float, run: int, interval: int, lowest: int, protected: int
) -> Model:
    """The released loop over the layers below the protected last ones; a merge collects the `run - 1` above it."""
    tail = [[i] for i in range(layers - protected, layers)]
    model: Model = [[i] for i in range(layers - protected)]
    base = layers - protected - run
    while base >= lowest:
        following = min(run - 1, len(model) - base - 1)
        end = base + 1 + following
        tried = [*model[:base], list(itertools.chain(*model[base:end])), *model[end:]]
        if similarity(tried + tail) > threshold:
            model = tried
            base -= interval
            if base >= len(model):
                base = len(model) - 1 - run
        else:
            base -= 1
    return model + tail


def noise(seed: int) -> Similarity:
    return lambda model: random.Random(f"{seed}{model}").choice([math.nan, *(i / 10 for i in range(11))])


def costs(seed: int) -> Similarity:
    chooser = random.Random(seed)
    cost = [chooser.choice([0.005, 0.02, 0.06]) * chooser.random() for _ in range(40)]
    return lambda model: round(1 - sum(cost[i] for group in model for i in group[1:]), 3)


@pytest.mark.parametrize("kind", [noise, costs])
def test_it_takes_the_decisions_of_the_released_loop(kind: Callable[[int], Similarity]) -> None:
    swallowed = 0
    for seed in range(1500):
        chooser = random.Random(seed)
        layers, similarity = chooser.randint(3, 16), kind(seed)
        threshold = chooser.choice([-0.5, 0.3, 0.5, 0.8, 0.95])
        run, interval = chooser.randint(2, 7), chooser.randint(1, 4)
        lowest, protected = chooser.randint(0, 2), chooser.randint(0, 2)
        context = Context(similarity, layers)
        windows = LaCo(threshold, run, interval, lowest, protected).propose(context).windows
        assert merged(windows, layers) == released(similarity, layers, threshold, run, interval, lowest, protected)
        assert len(context.asked) <= layers
        check_windows(windows, layers)
        swallowed += any(window.removed >= run for window in windows)
    assert swallowed > 100


def test_runs_of_four_are_tried_from_the_top_down_and_a_later_run_swallows_an_earlier_result() -> None:
    accepted = [[(6, 9)], [(4, 9)], [(1, 4), (6, 9)]]

    def similarity(model: Model) -> float:
        return 0.9 if [(group[0], group[-1]) for group in model if len(group) > 1] in accepted else 0.1

    context = Context(similarity, 11)
    assert LaCo(0.5).propose(context).windows == [Window(4, 9)]
    assert context.asked[:4] == [(Window(6, 9),), (Window(5, 9),), (Window(4, 9),), (Window(3, 9),)]
    # With an interval of 2 layers the next run starts at layer 4 at once.
    context.asked.clear()
    assert LaCo(0.5, interval=2).propose(context).windows == [Window(4, 9)]
    assert context.asked[:2] == [(Window(6, 9),), (Window(4, 9),)]
    # With an interval of 5 it is the run 1-4 below the first one.
    assert LaCo(0.5, interval=5).propose(context).windows == [Window(1, 4), Window(6, 9)]


def test_the_last_layer_is_spared_by_default_and_layer_0_is_not() -> None:
    assert LaCo(0.5).propose(Context(lambda model: 1.0, 9)).windows == [Window(0, 7)]
    assert LaCo(0.5, protect_last=0).propose(Context(lambda model: 1.0, 9)).windows == [Window(0, 8)]
    assert LaCo(0.5, protect_first=2).propose(Context(lambda model: 1.0, 9)).windows == [Window(2, 7)]


@pytest.mark.parametrize("kind", [noise, costs])
def test_a_target_is_met_and_never_overshot(kind: Callable[[int], Similarity]) -> None:
    for seed in range(200):
        chooser = random.Random(seed)
        layers, run = chooser.randint(6, 14), chooser.randint(2, 5)
        pruner = LaCo(merge_layers=run)
        target = chooser.randint(1, pruner.capacity(layers))
        context = Context(kind(seed), layers, target)
        proposal = pruner.propose(context)
        removed = removed_layers(proposal.windows)
        assert removed == target if kind is costs else removed <= target
        assert all(window.last < layers - 1 for window in check_windows(proposal.windows, layers))
        assert proposal.facts["thresholds_tried"] <= 25
        assert len(context.asked) <= 25 * layers


def test_it_ends_with_a_similarity_that_never_repeats_itself() -> None:
    for seed in range(50):
        chooser = random.Random(seed)
        context = Context(lambda model, c=chooser: c.random(), 20, target=6)  # type: ignore[misc]
        check_windows(LaCo().propose(context).windows, 20)
        check_windows(LaCo(0.5).propose(context).windows, 20)
        assert len(context.asked) <= 50 * 20


def test_a_model_without_room_for_one_run_loses_nothing() -> None:
    assert LaCo(0.5, merge_layers=7).propose(Context(lambda model: 1.0, 7)).windows == []
    assert LaCo(merge_layers=7).capacity(7) == 0
    assert LaCo(merge_layers=7).capacity(8) == 6
    assert LaCo(0.5).uses_target() is False
    assert LaCo().uses_target() is True
