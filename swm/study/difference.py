"""The difference of two points, and whether it is more than noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from swm.interfaces.executor import Row
from swm.study.measures import LABELS, MEAN, scale_of
from swm.study.points import Point
from swm.study.ranking import cost

# Standard errors on each side of a 95 % interval.
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
    errors = []
    for point in (one, other):
        values = [scale(row["measures"][measure][0]) for row in point.rows]
        whole = len(values) > 1 and all(map(math.isfinite, values))
        errors.append(stdev(values) / math.sqrt(len(values)) if whole else 0.0)
    return math.hypot(*errors)


def _paired(mine: Sequence[Row], theirs: Sequence[Row], measure: str) -> tuple[float, float] | None:
    """The difference (positive is better for `mine`) and its error over items; None where items are not known."""
    if measure == MEAN:
        measured = [name for name in mine[0]["measures"] if name not in LABELS]
        tasks = [name for name in measured if scale_of(name, mine).averaged]
        pairs = [_paired(mine, theirs, task) for task in tasks]
        known = [pair for pair in pairs if pair is not None]
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
    """One number an item, higher is better, averaged over seeds; of a perplexity nats a token with a minus."""
    each = [_numbers(row, measure) for row in rows]
    if not all(each) or len({len(numbers) for numbers in each}) > 1:
        return []
    return [fmean(values) for values in zip(*each, strict=True)]


def _numbers(row: Row, measure: str) -> list[float]:
    items: Any = row["items"].get(measure)
    if not items:
        return []
    if measure != "perplexity":
        scale = scale_of(measure, [row])
        return [(-1.0 if scale.less_is_better else 1.0) * scale.factor * float(item) for item in items]
    protocol: Mapping[str, Any] = row["protocols"]["perplexity"]
    tokens = protocol["scored_tokens"] / protocol["windows"]
    return [-nats / tokens for nats in items]
