"""What a study says: which method wins at which budget, and whether that is more than noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

from swm.interfaces.executor import Row
from swm.report.html_format import fixed
from swm.study.measures import LABELS, MEAN, scale_of
from swm.study.table import Point, cost

# Removed shares that differ by less than this many points are one budget.
SAME_BUDGET = 1.5
# With less than this many percent gone, there is nothing to compare.
NOTHING = 0.05
SURE = 1.96


@dataclass(frozen=True)
class Difference:
    """How much better one point is than another, and the standard error of that, item by item where it is known.

    A perplexity's difference is that of its logarithm.
    """

    better_by: float
    error: float | None

    @property
    def sure(self) -> bool | None:
        """Whether the difference exceeds the noise (95 %); None where the noise is not known."""
        return None if self.error is None else abs(self.better_by) > SURE * self.error


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
    """A verdict for every budget, by this measure."""
    found = []
    for group in budgets(points):
        able = [point for point in group if measure in point.estimates]
        ranked = sorted(able, key=lambda point: cost(point, measure))
        methods = [point for point in ranked if point.kind == "run"]
        trivial = next((point for point in ranked if point.is_trivial), None)
        if ranked:
            found.append(_verdict(ranked, methods, trivial, measure))
    return found


def _verdict(ranked: Sequence[Point], methods: Sequence[Point], trivial: Point | None, measure: str) -> Verdict:
    ratios = [point.estimates["ratio"].value for point in ranked]
    low, high = min(ratios), max(ratios)
    winner = methods[0] if methods else ranked[0]
    second = methods[1] if len(methods) > 1 else None
    share = fixed(low, 1) if high - low < 0.05 else f"{fixed(low, 1)} to {fixed(high, 1)}"
    parts = [f"At {share} % fewer parameters, {winner.name} has the best {_called(measure)}: {told(winner, measure)}"]
    if second is not None:
        found = compare(winner, second, measure)
        parts.append(f", then {second.name}: {told(second, measure)}; {_noise(found)}.")
        parts.append(_finer(methods, measure) if found.sure is False else "")
    else:
        parts.append(".")
    if trivial is not None and winner.kind == "run":
        parts.append(_against(winner, trivial, measure))
    return Verdict(low, high, winner, second, trivial, "".join(parts))


def _against(winner: Point, trivial: Point, measure: str) -> str:
    found = compare(winner, trivial, measure)
    shown = f"{trivial.name}: {told(trivial, measure)}"
    if math.isnan(found.better_by):
        return f" It cannot be compared with the best trivial baseline ({shown})."
    if found.better_by <= 0:
        return f" It does not beat the best trivial baseline ({shown})."
    if found.sure is False:
        return f" It is ahead of the best trivial baseline ({shown}), but {_noise(found)}."
    return f" It beats the best trivial baseline ({shown})" + ("." if found.sure else f", though {_noise(found)}.")


def _finer(methods: Sequence[Point], measure: str) -> str:
    """What perplexity says, which has more items, where the tasks cannot tell."""
    finer = "perplexity"
    able = sorted((point for point in methods if finer in point.estimates), key=lambda point: cost(point, finer))
    if measure == finer or len(able) < 2:
        return ""
    first, second = able[:2]
    ranked = ", then ".join(f"{point.name}: {told(point, finer)}" for point in (first, second))
    return f" By perplexity it is {ranked}; {_noise(compare(first, second, finer))}."


def _noise(found: Difference) -> str:
    if math.isnan(found.better_by):
        return "the two cannot be compared"
    if found.better_by == 0:
        return "the two are equal"
    if found.sure is None:
        return "how large the noise is was not measured"
    return "the difference exceeds the noise" if found.sure else "the difference is within the noise"


def told(point: Point, measure: str) -> str:
    """`61.20 ± 1.10`, the half of a 95 % interval."""
    found = point.estimates[measure]
    return fixed(found.value) + ("" if found.half is None else f" ± {fixed(found.half)}")


def _called(measure: str) -> str:
    return LABELS.get(measure, measure).split(",")[0]


def compare(one: Point, other: Point, measure: str) -> Difference:
    """How much better `one` is than `other`.

    Both were measured on the same items, so the error is that of the differences item by item (averaged over seeds),
    and that of the seeds' own differences beside it.
    """
    paired = _paired(one.rows, other.rows, measure)
    if paired is not None:
        better, items = paired
        seeds = _seed_error(one, other, measure)
        return Difference(better, math.hypot(items, seeds))
    better = cost(other, measure) - cost(one, measure)
    errors = [point.estimates[measure].error for point in (one, other)]
    known = None if None in errors else math.hypot(*(error for error in errors if error is not None))
    return Difference(better, known)


def _seed_error(one: Point, other: Point, measure: str) -> float:
    scale = math.log if measure == "perplexity" else float
    found = []
    for point in (one, other):
        values = [scale(row["measures"][measure][0]) for row in point.rows]
        whole = len(values) > 1 and all(map(math.isfinite, values))
        found.append(stdev(values) / math.sqrt(len(values)) if whole else 0.0)
    return math.hypot(*found)


def _paired(mine: Sequence[Row], theirs: Sequence[Row], measure: str) -> tuple[float, float] | None:
    """The difference (positive is better for `mine`) and its error over items; None where items are not known."""
    if measure == MEAN:
        measured = [name for name in mine[0]["measures"] if name not in LABELS]
        tasks = [name for name in measured if scale_of(name, mine).averaged]
        found = [_paired(mine, theirs, task) for task in tasks]
        known = [pair for pair in found if pair is not None]
        if len(known) < len(tasks) or not tasks:
            return None
        return fmean(better for better, _ in known), math.hypot(*(error for _, error in known)) / len(known)
    vectors = [_items(rows, measure) for rows in (mine, theirs)]
    if not vectors[0] or len(vectors[0]) != len(vectors[1]) or len(vectors[0]) < 2:
        return None
    differences = [a - b for a, b in zip(*vectors, strict=True)]
    if not all(map(math.isfinite, differences)):
        return None
    error = stdev(differences) / math.sqrt(len(differences))
    return fmean(differences), error


def _items(rows: Sequence[Row], measure: str) -> list[float]:
    """One number an item, higher is better, averaged over seeds: percent of hits, or nats a token with a minus."""
    each = [_numbers(row, measure) for row in rows]
    if not all(each) or len({len(numbers) for numbers in each}) > 1:
        return []
    return [fmean(values) for values in zip(*each, strict=True)]


def _numbers(row: Row, measure: str) -> list[float]:
    found: Any = row["items"].get(measure)
    if not found:
        return []
    if isinstance(found, str):
        scale = scale_of(measure, [row])
        return [(-1.0 if scale.less_is_better else 1.0) * scale.factor * int(digit) for digit in found]
    protocol: Mapping[str, Any] = row["protocols"]["perplexity"]
    tokens = protocol["scored_tokens"] / protocol["windows"]
    return [-nats / tokens for nats in found]
