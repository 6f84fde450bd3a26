"""What each row of a study's table is beside the best method at its budget."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from swm.report.html_format import fixed
from swm.study.pairs import Pair, Relation
from swm.study.points import ENOUGH_SEEDS, Point
from swm.study.verdict import Verdict

# What a test says of the row, by what it says of the best.
WORDS: Mapping[Relation, str] = {
    Relation.BEATS: "beaten",
    Relation.OPEN: "not told apart",
    Relation.EQUAL: "equal",
    Relation.BEATEN: "better",
    Relation.AHEAD: "noise not known",
    Relation.BEHIND: "noise not known",
    Relation.UNKNOWN: "cannot be compared",
}


@dataclass(frozen=True)
class AgainstBest:
    """A row beside the best method at its budget, compared item by item.

    `value` is how much more the row has, in the unit of the measure, or with `times` how many times as much. `p` is
    corrected for the number of tests. The best itself has nothing of this.
    """

    budget: str
    value: float | None = None
    error: float | None = None
    times: bool = False
    p: float | None = None
    relation: Relation | None = None
    factor: int = 1
    """What fractions were multiplied by to give `value` and `error`."""

    @property
    def text(self) -> str:
        """`× 1.08 ± 0.01, beaten`."""
        if self.relation is None:
            return "best"
        if self.value is None or not math.isfinite(self.value):
            return WORDS[self.relation]
        digits = 2 if not self.times or self.value >= 10 else 3
        shown = f"× {fixed(self.value, digits)}" if self.times else fixed(self.value, digits, "+")
        spread = "" if self.error is None else f" ± {fixed(self.error, digits)}"
        return f"{shown}{spread}, {WORDS[self.relation]}"


def against_best(verdicts: Iterable[Verdict]) -> dict[str, AgainstBest]:
    """All rows that were compared with the best of their budget, by their groups; the best among them."""
    rows: dict[str, AgainstBest] = {}
    for verdict in verdicts:
        best = verdict.winner.group
        budget = fixed((verdict.low + verdict.high) / 2, 1)
        rows[best] = AgainstBest(budget)
        for pair in verdict.pairs:
            sides = {pair.one.group: pair.other, pair.other.group: pair.one}
            if best in sides and len(sides[best].points) == 1:
                rows[sides[best].group] = _row(pair, verdict.winner, sides[best].points[0], budget)
    return rows


def _row(pair: Pair, best: Point, other: Point, budget: str) -> AgainstBest:
    difference, relation = pair.difference, pair.relation(best.group)
    behind = difference.better_by if pair.one.group == best.group else -difference.better_by
    less = other.scale(pair.measure).less_is_better
    value, error = behind if less else -behind, difference.error
    if difference.logarithm:
        value = math.exp(min(value, 700.0)) if math.isfinite(value) else math.inf
        error = None if error is None else value * error
    if any(1 < len(point.rows) < ENOUGH_SEEDS for point in (best, other)):
        error = None
    return AgainstBest(budget, value, error, difference.logarithm, pair.p, relation, other.scale(pair.measure).factor)
