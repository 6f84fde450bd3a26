"""What the tests of a study say, in words that mean the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from swm.report.html_format import fixed
from swm.study.contest import Contest, VariedKey
from swm.study.pairs import Pair, Relation, by_relation
from swm.study.points import Estimate, Point
from swm.study.ranking import cost

# Of more baselines than this, only their number is said.
NAMED = 2


def answer(subject: str, relations: Mapping[Relation, Sequence[str]]) -> str:
    """`depth_share 0 beats 0.75 and 1; is not told apart from 0.25.`"""
    return f"{subject} " + "; ".join(f"{r.value} {listed_by_and(names)}" for r, names in relations.items()) + "."


def axis_answer(axis: VariedKey, pairs: Sequence[Pair], measure: str) -> str:
    """What the values of one key do, each as the mean over all combinations of the other keys."""
    best = min(axis.sides, key=lambda side: fmean(cost(point, measure) for point in side.points))
    over = listed_by_and(axis.others)
    return f"By {axis.name}, as means over {over}: {answer(best.name, by_relation(best, pairs))}"


def against_baselines(contest: Contest, measure: str) -> str:
    """What the best method does against the best of the trivial baselines, and against the others."""
    winner, best = contest.methods[0], contest.trivial[0]
    pairs = [p for p in contest.pairs if p.one.group == winner.group and p.other.group != winner.group]
    relation = {pair.other.group: pair.relation(winner.group) for pair in pairs}
    ahead = cost(winner.points[0], measure) < cost(best.points[0], measure)
    words = {
        Relation.BEATS: "It beats {}",
        Relation.OPEN: f"It {'is ahead of' if ahead else 'does not beat'} {{}}, but is not told apart from it",
        Relation.AHEAD: "It is ahead of {}, but how large the noise is was not measured",
        Relation.BEHIND: "It does not beat {}",
        Relation.EQUAL: "It does not beat {}, which is equal",
        Relation.BEATEN: "It does not beat {}, which beats it",
        Relation.UNKNOWN: "It cannot be compared with {}",
    }[relation[best.group]]
    text = words.format(f"the best trivial baseline ({best.name}: {with_spread(best.points[0], measure)})")
    rest = [side.name for side in contest.trivial[1:] if relation[side.group] is Relation.OPEN]
    shown = listed_by_and(rest) if len(rest) <= NAMED else f"{len(rest)} other baselines"
    return text + (f"; it is not told apart from {shown}." if rest else ".")


def with_spread(point: Point, measure: str) -> str:
    """`61.20 ± 1.10`; of a few seeds the values instead: `61.20 (seeds 60.10, 62.30)`."""
    digits = point.scale(measure).decimals
    return spread(point.estimates[measure], lambda value: fixed(value, digits), digits)


def spread(estimate: Estimate, written: Callable[[float], str], digits: int = 2) -> str:
    """A number with its standard error, or with the values of its few seeds.

    `written` writes the number and the values of seeds; the error has so many digits after the point.
    """
    shown = written(estimate.value)
    if estimate.seeds:
        return f"{shown} (seeds {', '.join(written(value) for value in estimate.seeds)})"
    return shown if estimate.shown_error is None else f"{shown} ± {fixed(estimate.shown_error, digits)}"


def listed_by_and(names: Sequence[str]) -> str:
    """`a, b and c`; names that have a comma themselves in parentheses."""
    names = [f"({name})" for name in names] if len(names) > 1 and any("," in name for name in names) else names
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
