"""The verdicts of a study: which method is best at each budget, and which others it is told apart from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from swm.report.html_format import fixed
from swm.study.answers import against_baselines, answer, axis_answer, listed_by_and, with_spread
from swm.study.budgets import budgets
from swm.study.contest import Contest, held
from swm.study.item_numbers import items_of_runs
from swm.study.measures import LABELS, MEAN
from swm.study.pairs import Pair, Relation, by_relation
from swm.study.points import Point
from swm.study.ranking import cost


@dataclass(frozen=True)
class Verdict:
    """The result at one budget: `low` to `high` percent of the parameters removed.

    `pairs` are all tests at this budget, `more` are sentences about those that the winner has no part in.
    """

    low: float
    high: float
    winner: Point
    sentence: str
    pairs: Sequence[Pair] = ()
    more: Sequence[str] = ()


def verdicts(points: Sequence[Point], measure: str) -> list[Verdict]:
    """A verdict for every budget, by this measure; all tests of all budgets are corrected together.

    Points outside the grid, and those that miss a limit of their recipe's `accept`, have no part in it.
    """
    able = [point for point in points if not point.rejected and not point.outside]
    groups = [group for group in budgets(able) if any(measure in point.estimates for point in group)]
    others = {name: held(groups, name) for name in _other_measures(groups, measure)}
    return [
        _verdict(contest, measure, {name: contests[i] for name, contests in others.items() if contests[i].points})
        for i, contest in enumerate(held(groups, measure))
    ]


def _other_measures(groups: Sequence[Sequence[Point]], measure: str) -> list[str]:
    """Measures beside the ranking one that are known item by item, and are no parts of a mean."""
    able = [point for group in groups for point in group if point.kind == "run"]
    names = dict.fromkeys(name for point in able for name in point.estimates if name not in (measure, MEAN))

    def known(name: str) -> bool:
        having = [point for point in able if name in point.estimates]
        return not having[0].scale(name).averaged and all(items_of_runs(point.rows, name) for point in having)

    return [name for name in names if known(name)]


def _verdict(contest: Contest, measure: str, others: dict[str, Contest]) -> Verdict:
    """The verdict at one budget.

    Args:
        contest: The points by the measure that ranks, with all tests.
        measure: That measure.
        others: The same points by other measures, which may tell apart what this one cannot.
    """
    winner = contest.points[0] if not contest.methods else contest.methods[0].points[0]
    equal = [winner.name, *(s.points[0].name for s in contest.methods[1:] if _alike(s.points[0], winner, measure))]
    have = f"{listed_by_and(equal)} {'has' if len(equal) == 1 else 'have'}"
    parts = [f"At {_budget(contest)}, {have} the best {called(measure)}: {with_spread(winner, measure)}."]
    relations = by_relation(contest.methods[0], contest.method_pairs) if contest.methods else {}
    if relations:
        parts.append(answer(contest.subject(contest.methods[0]) if contest.key or len(equal) > 1 else "It", relations))
    if contest.methods and contest.trivial:
        parts.append(against_baselines(contest, measure))
    parts += [axis_answer(axis, contest.pairs_of(axis.sides), measure) for axis in contest.axes]
    if {Relation.OPEN, Relation.EQUAL} & relations.keys():
        parts += [line for name, other in others.items() for line in _by_another(other, name)]
    more = []
    for side in contest.methods[1:]:
        later = by_relation(side, [pair for pair in contest.method_pairs if pair.one.group == side.group])
        more += [answer(contest.subject(side), later)] if later else []
    low, high = contest.range
    return Verdict(low, high, winner, " ".join(parts), contest.pairs, more)


def _alike(one: Point, other: Point, measure: str) -> bool:
    return math.isfinite(cost(one, measure)) and cost(one, measure) == cost(other, measure)


def _by_another(contest: Contest, measure: str) -> list[str]:
    if len(contest.methods) < 2:
        return []
    best = contest.methods[0]
    relations = by_relation(best, contest.method_pairs)
    if relations.keys() == {Relation.EQUAL}:
        return []
    said = answer("it", relations)
    number = with_spread(best.points[0], measure)
    line = f"By {called(measure)}, {best.points[0].name} is the best method ({number}): {said}"
    return [line, against_baselines(contest, measure)] if contest.trivial else [line]


def _budget(contest: Contest) -> str:
    """`20.0 % fewer parameters`, with the target where all have one."""
    low, high = contest.range
    share = fixed(low, 1) if high - low < 0.05 else f"{fixed(low, 1)} to {fixed(high, 1)}"
    targets = sorted({point.asked for point in contest.points if point.asked})
    asked = f" (target {targets[0]})" if len(targets) == 1 else ""
    return f"{share} % fewer parameters{asked}"


def called(measure: str) -> str:
    """A measure without its unit."""
    return LABELS.get(measure, measure).split(",")[0]
