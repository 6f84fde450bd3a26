"""Two studies beside each other."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from swm.errors import StudyError
from swm.study.answers import with_spread
from swm.study.budgets import budgets
from swm.study.columns import finished
from swm.study.difference import Difference, compare
from swm.study.holm import holm
from swm.study.points import Point, check_protocols
from swm.study.ranking import cost
from swm.study.results import Results, read_results


def compare_studies(one: str | Path, other: str | Path) -> dict[str, Any]:
    """At each budget that both have, the best of each, and whether the difference exceeds the noise.

    Raises StudyError when they were not measured by one protocol, or by no common measure, and without a common budget.
    """
    left, right = read_results(one), read_results(other)
    check_protocols([*finished(left.rows), *finished(right.rows)])
    measure = left.rank_by
    if measure is None or not any(measure in point.estimates for point in right.points):
        raise StudyError(f"{one} is ranked by {measure or 'nothing'}, which {other} did not measure")
    pairs = []
    for group in budgets([point for point in (*left.points, *right.points) if not point.outside]):
        best = [_best(results, group, measure) for results in (left, right)]
        if best[0] is not None and best[1] is not None:
            pairs.append((best[0], best[1], group, compare(best[0], best[1], measure)))
    if not pairs:
        shares = [_shares(results, measure) for results in (left, right)]
        raise StudyError(f"no budget is common: {one} has {shares[0]} removed, {other} {shares[1]}")
    corrected = iter(holm([difference.p for *_, difference in pairs if difference.p is not None]))
    lines = []
    for mine, theirs, group, difference in pairs:
        p = None if difference.p is None else next(corrected)
        lines.append(_line(group, replace(difference, p=p)) | _best_of(mine, theirs, measure))
    return {"rank_by": measure, "budgets": lines}


def _best(results: Results, group: list[Point], measure: str) -> Point | None:
    able = [p for p in results.points if any(p is q for q in group) and measure in p.estimates and p.kind == "run"]
    return min(able, key=lambda point: cost(point, measure), default=None)


def _shares(results: Results, measure: str) -> str:
    """What the runs of a study that could be compared removed: `10.2 %, 20.1 %`."""
    able = [p for p in results.points if measure in p.estimates and p.kind == "run" and not p.outside]
    shares = sorted(point.estimates["ratio"].value for point in able)
    return ", ".join(dict.fromkeys(f"{share:.1f} %" for share in shares)) or "no run with this measure"


def _best_of(one: Point, other: Point, measure: str) -> dict[str, str]:
    """The best of each study with its measure."""
    return {key: f"{p.name}: {with_spread(p, measure)}" for key, p in (("one", one), ("other", other))}


def _line(group: list[Point], difference: Difference) -> dict[str, Any]:
    """The comparison at one budget; the p-value of the difference is corrected for the number of budgets."""
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
        "better_by": difference.better_by,
        "error": difference.error,
        "p": difference.p,
        "verdict": verdict,
    }
