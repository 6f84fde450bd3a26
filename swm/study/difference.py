"""The difference of two points, or of two sets of points, and a test of whether it is more than noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from swm.study.item_numbers import Items, items_of_runs, parts_of
from swm.study.points import Point
from swm.study.ranking import cost

# The chance of calling something a difference that is none.
LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """How much better one point is than another, and the standard error of that, item by item where it is known.

    `p` is the chance of a difference at least as large between models that are alike, not corrected for the number of
    tests; None where the noise is not known. `logarithm` says that `better_by` is the difference of logarithms, as of a
    perplexity that is known item by item.
    """

    better_by: float
    error: float | None
    p: float | None = None
    logarithm: bool = False

    @property
    def sure(self) -> bool | None:
        """Whether the difference exceeds the noise, as the only one that is tested; None where that is not known."""
        return None if self.p is None else self.p < LEVEL

    @property
    def nothing(self) -> bool:
        """Whether the two are equal in every item, so that there is nothing to test."""
        return self.better_by == 0 and not self.error


@dataclass(frozen=True)
class _Part:
    """A part of the variance of a difference, and its degrees of freedom."""

    variance: float
    freedom: int


def compare(one: Point, other: Point, measure: str) -> Difference:
    """How much better `one` is than `other`."""
    return compare_means([one], [other], measure)


def compare_means(ones: Sequence[Point], others: Sequence[Point], measure: str) -> Difference:
    """How much better the mean of `ones` is than that of `others`.

    All were measured on the same items, so the error is that of the differences item by item, `d`, each averaged over
    seeds and points. A mean over `T` tasks has the variance `sum(var(d) / n) / T^2`. What the seeds of one point
    scatter is added. The test is Student's t with the degrees of freedom of Welch and Satterthwaite. Of items that are
    met or missed by one run each, it is McNemar's: under the hypothesis that the two are alike, the variance of a mean
    of differences is `sum(d^2) / n^2`.
    """
    samples = _samples(ones, others, measure)
    if samples is None:
        return _unpaired(ones, others, measure)
    differences, hits, logarithm = samples
    better = fmean(map(fmean, differences))
    parts = [_Part(variance(d) / len(d) / len(differences) ** 2, len(d) - 1) for d in differences]
    seeds = [part for points in (ones, others) for part in _seed_parts(points, measure, logarithm)]
    error = math.sqrt(sum(part.variance for part in [*parts, *seeds]))
    if hits and not seeds:
        null = math.sqrt(sum(sum(x * x for x in d) / len(d) ** 2 for d in differences)) / len(differences)
        p = math.erfc(abs(better) / null / math.sqrt(2)) if null else 1.0
    else:
        p = _student(better, error, [*parts, *seeds])
    return Difference(better, error, p, logarithm)


def _unpaired(ones: Sequence[Point], others: Sequence[Point], measure: str) -> Difference:
    """By the values and their own errors, where items are not known."""
    better = fmean(cost(point, measure) for point in others) - fmean(cost(point, measure) for point in ones)
    errors = [(point.estimates[measure].error, len(points)) for points in (ones, others) for point in points]
    known = [error / count for error, count in errors if error is not None]
    if len(known) < len(errors) or not math.isfinite(better):
        return Difference(better, None)
    error = math.hypot(*known)
    return Difference(better, error, math.erfc(abs(better) / error / math.sqrt(2)) if error else float(better == 0))


def _samples(
    ones: Sequence[Point], others: Sequence[Point], measure: str
) -> tuple[list[list[float]], bool, bool] | None:
    """The differences item by item, a list a task; whether they are of hits, and of logarithms. None without items."""
    differences: list[list[float]] = []
    hits, logarithm = True, False
    for part in parts_of(measure, ones[0].rows):
        sides = [_mean_items(points, part) for points in (ones, others)]
        mine, theirs = sides
        if mine is None or theirs is None or not 2 <= len(mine.numbers) == len(theirs.numbers):
            return None
        differences.append([a - b for a, b in zip(mine.numbers, theirs.numbers, strict=True)])
        if not all(map(math.isfinite, differences[-1])):
            return None
        hits &= mine.hits and theirs.hits
        logarithm |= mine.logarithm
    return (differences, hits, logarithm) if differences else None


def _mean_items(points: Sequence[Point], measure: str) -> Items | None:
    each = [items_of_runs(point.rows, measure) for point in points]
    known = [items for items in each if items is not None]
    if len(known) < len(each) or len({len(items.numbers) for items in known}) != 1:
        return None
    numbers = [fmean(values) for values in zip(*(items.numbers for items in known), strict=True)]
    return Items(numbers, known[0].hits and len(known) == 1, known[0].logarithm)


def _seed_parts(points: Sequence[Point], measure: str, logarithm: bool) -> list[_Part]:
    """What the seeds of each point add to the variance of the points' mean."""
    parts = []
    for point in points:
        values = [row["measures"][measure][0] for row in point.rows]
        values = [math.log(value) for value in values] if logarithm else values
        if len(values) > 1 and all(map(math.isfinite, values)):
            parts.append(_Part(variance(values) / len(values) / len(points) ** 2, len(values) - 1))
    return parts


def _student(better: float, error: float, parts: Sequence[_Part]) -> float:
    if not error:
        return float(better == 0)
    from scipy.stats import t

    freedom = error**4 / sum(part.variance**2 / part.freedom for part in parts)
    return float(2 * t.sf(abs(better) / error, freedom))
