"""The verdicts of a study: which method wins at which budget, and whether that is more than noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from swm.report.html_format import fixed
from swm.study.difference import Difference, compare
from swm.study.measures import LABELS
from swm.study.points import Point
from swm.study.ranking import cost

# Removed shares that differ by less than this many points are one budget.
SAME_BUDGET = 1.5
# With less than this many percent gone, there is nothing to compare.
NOTHING = 0.05


@dataclass(frozen=True)
class Verdict:
    """The result at one budget: `low` to `high` percent of the parameters removed."""

    low: float
    high: float
    winner: Point
    second: Point | None
    baseline: Point | None
    sentence: str


def budgets(points: Sequence[Point]) -> list[list[Point]]:
    """The points that removed about as much, by how much that is."""
    ordered = sorted(
        (p for p in points if p.estimates["ratio"].value > NOTHING), key=lambda point: point.estimates["ratio"].value
    )
    groups: list[list[Point]] = [ordered[:1]] if ordered else []
    for before, point in pairwise(ordered):
        if point.estimates["ratio"].value - before.estimates["ratio"].value > SAME_BUDGET:
            groups.append([])
        groups[-1].append(point)
    return groups


def verdicts(points: Sequence[Point], measure: str) -> list[Verdict]:
    """A verdict for every budget, by this measure. Points that miss a limit of their recipe's `accept` cannot win."""
    results = []
    for group in budgets([point for point in points if not point.rejected]):
        able = [point for point in group if measure in point.estimates]
        ranked = sorted(able, key=lambda point: cost(point, measure))
        methods = [point for point in ranked if point.kind == "run"]
        trivial = next((point for point in ranked if point.is_trivial), None)
        if ranked:
            results.append(_verdict(ranked, methods, trivial, measure))
    return results


def _verdict(ranked: Sequence[Point], methods: Sequence[Point], trivial: Point | None, measure: str) -> Verdict:
    """The verdict at one budget.

    Args:
        ranked: All points, the best first.
        methods: Those of them that are neither baselines nor the original model, the best first.
        trivial: The best baseline, if there is one.
        measure: What they are ranked by.
    """
    ratios = [point.estimates["ratio"].value for point in ranked]
    low, high = min(ratios), max(ratios)
    winner = methods[0] if methods else ranked[0]
    second = methods[1] if len(methods) > 1 else None
    share = fixed(low, 1) if high - low < 0.05 else f"{fixed(low, 1)} to {fixed(high, 1)}"
    best = f"{_called(measure)}: {with_interval(winner, measure)}"
    parts = [f"At {share} % fewer parameters, {winner.name} has the best {best}"]
    if second is not None:
        difference = compare(winner, second, measure)
        parts.append(f", then {second.name}: {with_interval(second, measure)}; {_noise(difference)}.")
        parts.append(_finer(methods, measure) if difference.sure is False else "")
    else:
        parts.append(".")
    if trivial is not None and winner.kind == "run":
        parts.append(_against(winner, trivial, measure))
    return Verdict(low, high, winner, second, trivial, "".join(parts))


def _against(winner: Point, trivial: Point, measure: str) -> str:
    difference = compare(winner, trivial, measure)
    shown = f"{trivial.name}: {with_interval(trivial, measure)}"
    if math.isnan(difference.better_by):
        return f" It cannot be compared with the best trivial baseline ({shown})."
    if difference.better_by <= 0:
        return f" It does not beat the best trivial baseline ({shown})."
    if difference.sure is False:
        return f" It is ahead of the best trivial baseline ({shown}), but {_noise(difference)}."
    return f" It beats the best trivial baseline ({shown})" + (
        "." if difference.sure else f", though {_noise(difference)}."
    )


def _finer(methods: Sequence[Point], measure: str) -> str:
    """The order by perplexity, which has more items, where the tasks show no clear difference."""
    finer = "perplexity"
    able = sorted((point for point in methods if finer in point.estimates), key=lambda point: cost(point, finer))
    if measure == finer or len(able) < 2:
        return ""
    first, second = able[:2]
    ranked = ", then ".join(f"{point.name}: {with_interval(point, finer)}" for point in (first, second))
    return f" By perplexity it is {ranked}; {_noise(compare(first, second, finer))}."


def _noise(difference: Difference) -> str:
    if math.isnan(difference.better_by):
        return "the two cannot be compared"
    if difference.better_by == 0:
        return "the two are equal"
    if difference.sure is None:
        return "how large the noise is was not measured"
    return "the difference exceeds the noise" if difference.sure else "the difference is within the noise"


def with_interval(point: Point, measure: str) -> str:
    """`61.20 ± 1.10`, the half of a 95 % interval."""
    estimate = point.estimates[measure]
    return fixed(estimate.value) + ("" if estimate.half is None else f" ± {fixed(estimate.half)}")


def _called(measure: str) -> str:
    return LABELS.get(measure, measure).split(",")[0]
