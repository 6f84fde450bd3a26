"""Sliding-Window Merging against brute-force transcriptions of its loop, on thousands of made-up similarities."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import pytest

from swm.model.windows import Window, check_windows, removed_layers
from swm.pruners.sliding_window import SlidingWindow

Quirks = Literal["released", "fixed"]
Ends = tuple[int, int]
Model = list[list[int]]
Similarity = Callable[[Model], float]


@dataclass
class Context:
    """The part of `DepthContext` that the pruner uses, with similarities out of a function of the merged model."""

    similarity: Similarity
    layers: int
    target: int | None = None
    asked: list[tuple[Window, ...]] = field(default_factory=list)
    part: float | None = None
    """How much of a window's local change reaches the end."""

    def local(self, window: Window) -> float:
        if self.part is None:
            return math.nan
        return 1 - (1 - self.similarity(merged([window], self.layers))) / self.part

    def trial(self, windows: Sequence[Window], above: float | None = None) -> float:
        self.asked.append(check_windows(windows, self.layers))
        return self.similarity(merged(windows, self.layers))


def joined(model: Model, low: int, high: int) -> Model:
    """The model with these neighbours as one group."""
    return [*model[:low], list(itertools.chain(*model[low : high + 1])), *model[high + 1 :]]


def merged(windows: Sequence[Window], layers: int) -> Model:
    model: Model = [[i] for i in range(layers)]
    for window in sorted(windows, reverse=True):
        model = joined(model, window.first, window.last)
    return model


def released(similarity: Similarity, layers: int, threshold: float) -> Model:
    """The released loop on a model as a list of groups; its extra trial after a merge is made as well."""
    model: Model = [[i] for i in range(layers)]
    high = layers - 2
    low = high - 1
    while low >= 0:
        if similarity(joined(model, low, high)) > threshold:
            low -= 1
        elif low + 1 != high:
            model = joined(model, low + 1, high)
            high = low
        else:
            high, low = high - 1, low - 1
    return model


def fixed(
    similarity: Similarity, layers: int, threshold: float, limit: int | None = None, ends: Ends = (1, 1)
) -> Model:
    """The loop that merges the pending window at the end and, with a limit, stops at that many removed layers."""
    model: Model = [[i] for i in range(layers)]
    high = layers - 1 - ends[1]
    low = high - 1
    while low >= ends[0]:
        tried = joined(model, low, high)
        if similarity(tried) > threshold:
            if layers - len(tried) == limit:
                return tried
            low -= 1
        elif low + 1 < high:
            model = joined(model, low + 1, high)
            high, low = low, low - 1
        else:
            high, low = high - 1, low - 1
    return joined(model, low + 1, high) if low + 1 < high else model


def costs(seed: int, wobble: float = 0.0, digits: int = 3) -> Similarity:
    """Every merged layer costs something of its own; with a wobble longer windows may be better."""
    chooser = random.Random(seed)
    cost = [chooser.choice([0.005, 0.02, 0.06, 0.15]) * chooser.random() for _ in range(40)]

    def similarity(model: Model) -> float:
        value = 1 - sum(cost[i] for group in model for i in group[1:])
        return round(min(1.0, value + wobble * random.Random(f"{seed}{model}").uniform(-1, 1)), digits)

    return similarity


def overflowing(seed: int) -> Similarity:
    """A share of the models gives no number."""
    inner, share = costs(seed, 0.05), random.Random(seed).choice([0.1, 0.5, 1.0])
    return lambda model: math.nan if random.Random(f"nan{seed}{model}").random() < share else inner(model)


def sizes(seed: int, fewest: int, most: int) -> tuple[int, int]:
    """A number of layers, and how many of them to remove."""
    chooser = random.Random(seed)
    layers = chooser.randint(fewest, most)
    return layers, chooser.randint(1, layers - 3)


KINDS: dict[str, Callable[[int], Similarity]] = {
    # Anything, in few steps, so that many similarities are exactly the threshold.
    "noise": lambda seed: lambda model: random.Random(f"{seed}{model}").randrange(-10, 11) / 10,
    "costs": costs,
    "wobbling costs": lambda seed: costs(seed, 0.05),
    "not a number": overflowing,
}
every_quirk = pytest.mark.parametrize("quirks", ["released", "fixed"])
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_both_quirks_take_the_decisions_of_their_loops(kind: str) -> None:
    for seed in range(500):
        chooser = random.Random(seed)
        layers, similarity = chooser.randint(2, 16), KINDS[kind](seed)
        threshold = chooser.choice([-1.0, -0.5, 0.1, 0.3, 0.5, 0.72, 0.9, 1.0])
        ends = chooser.randint(0, 3), chooser.randint(0, 3)
        cases = {
            SlidingWindow(threshold, "released"): released(similarity, layers, threshold),
            SlidingWindow(threshold): fixed(similarity, layers, threshold),
            SlidingWindow(threshold, "fixed", *ends): fixed(similarity, layers, threshold, None, ends),
        }
        for pruner, expected in cases.items():
            context = Context(similarity, layers)
            assert merged(pruner.propose(context).windows, layers) == expected
            assert len(context.asked) <= layers


@every_kind
@every_quirk
def test_the_first_and_the_last_layer_are_never_merged_and_windows_descend(kind: str, quirks: Quirks) -> None:
    for seed in range(200):
        pruner = SlidingWindow(random.Random(seed).uniform(-1, 1), quirks)
        windows = pruner.propose(Context(KINDS[kind](seed), 12)).windows
        assert check_windows(windows, 12) == tuple(reversed(windows))
        assert all(window.first >= 1 and window.last <= 10 for window in windows)


def test_when_everything_passes_the_released_loop_removes_nothing_and_the_fixed_one_all_between_the_ends() -> None:
    for layers in range(4, 12):
        context = Context(lambda model: 1.0, layers)
        assert SlidingWindow(0.5, "released").propose(context).windows == []
        assert SlidingWindow(0.5).propose(context).windows == [Window(1, layers - 2)]


@pytest.mark.parametrize("value", [0.5, 0.4, math.nan])
def test_a_similarity_that_is_not_above_the_threshold_merges_nothing(value: float) -> None:
    assert SlidingWindow(0.5).propose(Context(lambda model: value, 9)).windows == []


@every_quirk
def test_even_costs_give_one_long_window(quirks: Quirks) -> None:
    context = Context(lambda model: round(1 - 0.02 * (32 - len(model)), 6), 32)
    proposal = SlidingWindow(0.72, quirks).propose(context)
    assert proposal.windows == [Window(17, 30)]
    assert proposal.facts == {"threshold": 0.72}


@every_quirk
@pytest.mark.parametrize("threshold", [0.5, None])
def test_it_ends_with_a_similarity_that_never_repeats_itself(quirks: Quirks, threshold: float | None) -> None:
    for seed in range(50):
        chooser = random.Random(seed)
        context = Context(lambda model, c=chooser: c.random(), 20, target=6)  # type: ignore[misc]
        proposal = SlidingWindow(threshold, quirks).propose(context)
        assert len(context.asked) <= 20 * proposal.facts.get("thresholds_tried", 1) <= 20 * 49
        check_windows(proposal.windows, 20)


@every_kind
def test_a_target_is_met_exactly_and_by_the_threshold_reported(kind: str) -> None:
    for seed in range(150):
        layers, target, similarity = *sizes(seed, 4, 14), KINDS[kind](seed)
        proposal = SlidingWindow().propose(context := Context(similarity, layers, target))
        removed = removed_layers(proposal.windows)
        possible = layers - len(fixed(similarity, layers, -2, target))
        assert min(target, possible) <= removed <= target
        assert removed == target or kind == "not a number"
        limit = target if removed == target else None
        assert merged(proposal.windows, layers) == fixed(similarity, layers, proposal.facts["threshold"], limit)
        assert proposal.facts["thresholds_tried"] <= 25
        assert len(context.asked) <= 26 * layers


@every_kind
def test_the_released_loop_never_overshoots_its_target_by_more_than_one_layer(kind: str) -> None:
    for seed in range(150):
        layers, target, similarity = *sizes(seed, 4, 14), KINDS[kind](seed)
        proposal = SlidingWindow(quirks="released").propose(Context(similarity, layers, target))
        assert removed_layers(proposal.windows) <= target + 1
        assert merged(proposal.windows, layers) == released(similarity, layers, proposal.facts["threshold"])


def outcomes(similarity: Similarity, loop: Callable[[Similarity, float], Model]) -> list[tuple[float, Model]]:
    """What a loop makes of every threshold at which some decision may change, from the lowest one up."""
    thresholds, results = {-2.0}, dict[float, Model]()
    while thresholds - results.keys():
        for threshold in thresholds - results.keys():

            def watched(model: Model) -> float:
                value = similarity(model)
                thresholds.add(value)
                return value

            results[threshold] = loop(watched, threshold)
    return sorted(results.items())


def test_no_higher_threshold_meets_the_target() -> None:
    checked = 0
    for seed in range(120):
        layers, target, similarity = *sizes(seed, 5, 9), costs(seed, 0.02 * (seed % 3))
        every = outcomes(similarity, lambda s, t, n=layers, k=target: fixed(s, n, t, k))  # type: ignore[misc]
        counts = [layers - len(model) for _, model in every]
        if counts == sorted(counts, reverse=True):
            checked += 1
            best = max(threshold for (threshold, _), count in zip(every, counts, strict=True) if count == target)
            proposal = SlidingWindow().propose(Context(similarity, layers, target))
            assert merged(proposal.windows, layers) == dict(every)[best]
    assert checked > 60


def test_the_released_loop_comes_as_near_to_its_target_as_any_threshold_does() -> None:
    for seed in range(150):
        layers, target, similarity = *sizes(seed, 5, 9), costs(seed)
        every = outcomes(similarity, lambda s, t, n=layers: released(s, n, t))  # type: ignore[misc]
        nearest = min(abs(layers - len(m) - target) for _, m in every if layers - len(m) <= target + 1)
        proposal = SlidingWindow(quirks="released").propose(Context(similarity, layers, target))
        assert abs(removed_layers(proposal.windows) - target) == nearest


def test_the_protected_ends_bound_what_can_be_removed() -> None:
    assert SlidingWindow().capacity(32) == 29
    assert SlidingWindow(protect_first=4, protect_last=2).capacity(32) == 25
    assert SlidingWindow(0.7).uses_target() is False
    assert SlidingWindow().uses_target() is True
    with pytest.raises(ValueError, match="quirks: released has fixed protected layers"):
        SlidingWindow(0.7, "released", protect_first=2)


@every_quirk
def test_bisection_finds_the_same_windows_where_longer_ones_are_never_better(quirks: Quirks) -> None:
    for seed in range(300):
        layers, target = sizes(seed, 4, 24)
        for pruner in (SlidingWindow(random.Random(seed).uniform(0.3, 1), quirks), SlidingWindow(quirks=quirks)):
            goal = target if pruner.uses_target() else None
            linear, skipping = (Context(costs(seed), layers, goal) for _ in range(2))
            expected = pruner.propose(linear)
            assert replace(pruner, search="bisect").propose(skipping) == expected


@every_quirk
def test_bisection_takes_few_trials_for_long_windows(quirks: Quirks) -> None:
    # Twelve layers may go in one window of 13, out of 40.
    context = Context(lambda model: 1 - 0.01 * max(map(len, model)), 40)
    found = SlidingWindow(0.868, quirks, search="bisect").propose(context).windows
    assert [window.removed for window in found[:2]] == [12, 12]
    assert len(context.asked) <= 3 * 2 * math.ceil(math.log2(13))
    linear = Context(context.similarity, 40)
    assert SlidingWindow(0.868, quirks).propose(linear).windows == found
    assert len(linear.asked) >= 37


def test_bisection_may_skip_what_does_not_pass() -> None:
    # A window of three layers does not pass, longer ones do.
    similarity: Similarity = lambda model: 0.0 if max(map(len, model)) == 3 else 1.0  # noqa: E731
    assert SlidingWindow(0.5).propose(Context(similarity, 10)).windows[0] == Window(7, 8)
    assert SlidingWindow(0.5, search="bisect").propose(Context(similarity, 10)).windows == [Window(1, 8)]


@every_quirk
def test_what_is_predicted_saves_trials_and_changes_nothing_where_it_comes_true(quirks: Quirks) -> None:
    asked = []
    for seed in range(200):
        layers, threshold = random.Random(seed).randint(12, 40), random.Random(seed).uniform(0.7, 0.95)
        linear, blind, seeing = (Context(costs(seed, 0, 9), layers, part=part) for part in (None, None, 0.5))
        expected = SlidingWindow(threshold, quirks).propose(linear)
        for context in (blind, seeing):
            assert SlidingWindow(threshold, quirks, search="bisect").propose(context) == expected
        asked.append([len(set(context.asked)) for context in (linear, blind, seeing)])
    of_linear, of_blind, of_seeing = map(sum, zip(*asked, strict=True))
    assert of_seeing < 0.75 * min(of_linear, of_blind)


def test_a_window_that_is_better_than_predicted_may_be_passed_over() -> None:
    # Layers 7 to 9 cost as much at the end as where they are, the others next to nothing at the end.
    def similarity(model: Model) -> float:
        return 1 - sum(0.2 if i in (7, 8, 9) else 0.01 for group in model for i in group[1:])

    context = Context(similarity, 11)
    assert removed_layers(SlidingWindow(0.95, search="bisect").propose(context).windows) == 4
    context.local = lambda window: 1 - 0.2 * window.removed  # type: ignore[method-assign]
    assert SlidingWindow(0.95, search="bisect").propose(context).windows == []


@every_kind
@every_quirk
@pytest.mark.parametrize("part", [None, 0.1, 3.0])
def test_what_bisection_merges_has_passed(kind: str, quirks: Quirks, part: float | None) -> None:
    for seed in range(100):
        layers, similarity = random.Random(seed).randint(4, 16), KINDS[kind](seed)
        context = Context(similarity, layers, part=part)
        windows = SlidingWindow(0.4, quirks, search="bisect").propose(context).windows
        assert check_windows(windows, layers) == tuple(reversed(windows))
        for count in range(1, len(windows) + 1):
            assert similarity(merged(windows[:count], layers)) > 0.4
