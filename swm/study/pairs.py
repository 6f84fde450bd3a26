"""All pairs of the points at each budget, tested together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations

from swm.study.difference import LEVEL, Difference, compare, compare_means
from swm.study.holm import holm
from swm.study.points import Point
from swm.study.ranking import cost


class Relation(StrEnum):
    """What a test says of one side of a pair, as a sentence has it."""

    BEATS = "beats"
    OPEN = "is not told apart from"
    EQUAL = "equals"
    AHEAD = "is ahead, by a noise that is not known, of"
    BEHIND = "is behind, by a noise that is not known,"
    BEATEN = "is beaten by"
    UNKNOWN = "cannot be compared with"


@dataclass(frozen=True)
class Side:
    """One side of a pair: a point, or several whose mean is compared."""

    name: str
    points: Sequence[Point]

    @property
    def group(self) -> str:
        """What no other side has."""
        return " ".join(point.group for point in self.points)


@dataclass(frozen=True)
class Pair:
    """Two sides, their difference (positive where `one` is better), and its p-value, corrected for their number."""

    measure: str
    one: Side
    other: Side
    difference: Difference
    p: float | None

    def relation(self, group: str) -> Relation:
        """What the test says of the side of this group."""
        better = self.difference.better_by if group == self.one.group else -self.difference.better_by
        if math.isnan(better):
            return Relation.UNKNOWN
        if self.difference.nothing:
            return Relation.EQUAL
        if self.p is None:
            return Relation.AHEAD if better > 0 else Relation.BEHIND
        if self.p >= LEVEL:
            return Relation.OPEN
        return Relation.BEATS if better > 0 else Relation.BEATEN


@dataclass
class Family:
    """Tests that are corrected together: the chance that any of them finds a difference that is none is 5 %."""

    measure: str
    _pending: list[tuple[Side, Side, Difference]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many pairs there are so far."""
        return len(self._pending)

    def add_all(self, sides: Sequence[Side], others: Sequence[Side] = ()) -> None:
        """Test every pair of sides, and each of them against each of the others."""
        for one, other in [*combinations(sides, 2), *((one, other) for one in sides for other in others)]:
            if len(one.points) == len(other.points) == 1:
                difference = compare(one.points[0], other.points[0], self.measure)
            else:
                difference = compare_means(one.points, other.points, self.measure)
            self._pending.append((one, other, difference))

    def pairs(self) -> list[Pair]:
        """All pairs with corrected p-values. Where every item is equal, there is no test to correct for."""
        tested = [d for _, _, d in self._pending if d.p is not None and not d.nothing]
        corrected = {id(d): p for d, p in zip(tested, holm([d.p or 0.0 for d in tested]), strict=True)}
        return [
            Pair(self.measure, one, other, difference, corrected.get(id(difference), difference.p))
            for one, other, difference in self._pending
        ]


def by_relation(side: Side, pairs: Sequence[Pair]) -> dict[Relation, list[str]]:
    """The names of all others that a side was tested with, by what the tests say of it."""
    names: dict[Relation, list[str]] = {relation: [] for relation in Relation}
    for pair in pairs:
        if side.group in (pair.one.group, pair.other.group):
            other = pair.other if pair.one.group == side.group else pair.one
            names[pair.relation(side.group)].append(other.name)
    return {relation: others for relation, others in names.items() if others}


def ranked(points: Sequence[Point], measure: str) -> list[Point]:
    """Those that have the measure, the best first."""
    return sorted((p for p in points if measure in p.estimates), key=lambda point: cost(point, measure))
