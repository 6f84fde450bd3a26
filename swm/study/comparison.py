"""Two studies beside each other."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from swm.errors import StudyError
from swm.study.columns import finished
from swm.study.difference import compare
from swm.study.points import Point, check_protocols
from swm.study.ranking import cost
from swm.study.results import Results, read_results
from swm.study.verdict import budgets, with_interval


def compare_studies(one: str | Path, other: str | Path) -> dict[str, Any]:
    """At each budget that both have, the best of each, and whether the difference exceeds the noise.

    Raises StudyError when they were not measured by one protocol, or by no common measure.
    """
    left, right = read_results(one), read_results(other)
    check_protocols([*finished(left.rows), *finished(right.rows)])
    measure = left.rank_by
    if measure is None or not any(measure in point.estimates for point in right.points):
        raise StudyError(f"{one} is ranked by {measure or 'nothing'}, which {other} did not measure")
    lines = []
    for group in budgets([*left.points, *right.points]):
        best = [_best(results, group, measure) for results in (left, right)]
        if best[0] is not None and best[1] is not None:
            lines.append(_line(best[0], best[1], group, measure))
    return {"rank_by": measure, "budgets": lines}


def _best(results: Results, group: list[Point], measure: str) -> Point | None:
    able = [p for p in results.points if any(p is q for q in group) and measure in p.estimates and p.kind == "run"]
    return min(able, key=lambda point: cost(point, measure), default=None)


def _line(one: Point, other: Point, group: list[Point], measure: str) -> dict[str, Any]:
    """The comparison at one budget.

    Args:
        one: The best point of the first study.
        other: The best point of the second one.
        group: All points of both at this budget.
        measure: What they are compared by.
    """
    difference = compare(one, other, measure)
    shares = [point.estimates["ratio"].value for point in group]
    if math.isnan(difference.better_by):
        verdict = "cannot be compared"
    elif difference.better_by == 0:
        verdict = "equal"
    else:
        ahead = "the first is better" if difference.better_by > 0 else "the second is better"
        noise = {None: ", the noise is not known", True: ", beyond the noise", False: ", within the noise"}
        verdict = ahead + noise[difference.sure]
    return {
        "budget": f"{min(shares):.1f} to {max(shares):.1f} %",
        "one": f"{one.name}: {with_interval(one, measure)}",
        "other": f"{other.name}: {with_interval(other, measure)}",
        "better_by": difference.better_by,
        "error": difference.error,
        "verdict": verdict,
    }
