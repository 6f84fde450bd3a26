"""Which points are better: by one measure, or in nothing worse than any other."""

from __future__ import annotations

import math
from collections.abc import Sequence

from swm.errors import StudyError, unknown
from swm.study.measures import LABELS, MEAN, TRADED
from swm.study.points import Point


def rank_key(points: Sequence[Point], wanted: str | None) -> str | None:
    """The measure by which methods are ranked: the wanted one, else the tasks' average, else the perplexity.

    Raises StudyError for a measure that no run has.
    """
    known = list(dict.fromkeys(name for point in points for name in point.estimates))
    if wanted is not None and points:
        if wanted not in known:
            raise StudyError(unknown("measure", wanted, known), ("rank_by",))
        return wanted
    others = [name for name in known if name not in LABELS]
    named = [name for name in others if any(name in p.estimates and p.scale(name).alone for p in points)]
    tasks = [name for name in others if name not in named]
    return next((name for name in (MEAN, *tasks[:1], "perplexity", *named[:1]) if name in known), None)


def pareto(points: Sequence[Point]) -> set[str]:
    """The groups of the points on the Pareto front: no other is better in one measure and at least as good in all.

    Points that miss a limit of their recipe's `accept`, and those outside the grid, are left out.
    """
    points = [point for point in points if not point.rejected and not point.outside]
    objectives = [name for name in TRADED if all(name in point.estimates for point in points)]
    scores = {point.group: [cost(point, name) for name in objectives] for point in points}

    def beaten(mine: list[float]) -> bool:
        return any(
            all(a <= b for a, b in zip(theirs, mine, strict=True)) and theirs != mine for theirs in scores.values()
        )

    return {group for group, mine in scores.items() if not beaten(mine)}


def cost(point: Point, measure: str) -> float:
    """A measure of a point so that less is better; what is not a number is worse than everything."""
    value = point.estimates[measure].value
    if math.isnan(value):
        return math.inf
    return value if point.scale(measure).less_is_better else -value
