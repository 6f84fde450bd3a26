"""The points at one budget, and everything that is tested of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swm.study.naming import label, short_names
from swm.study.pairs import Family, Pair, Side, ranked
from swm.study.points import Point


@dataclass(frozen=True)
class VariedKey:
    """A key that is varied at one budget: its values, each the mean over all combinations of the `others`."""

    name: str
    others: Sequence[str]
    sides: Sequence[Side]


@dataclass(frozen=True)
class Contest:
    """The points at one budget, the best first.

    `methods` are what the study is about, `trivial` what must be beaten. `key` is the only key that the methods differ
    in, where there is one that is no name.
    """

    points: Sequence[Point]
    methods: Sequence[Side]
    trivial: Sequence[Side]
    axes: Sequence[VariedKey]
    key: str = ""
    pairs: Sequence[Pair] = ()

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest share of parameters that is gone, in percent."""
        shares = [point.estimates["ratio"].value for point in self.points]
        return min(shares), max(shares)

    @property
    def method_pairs(self) -> list[Pair]:
        """The tests of two methods."""
        return self.pairs_of(self.methods)

    def pairs_of(self, sides: Sequence[Side]) -> list[Pair]:
        """The tests of two of these sides."""
        groups = {side.group for side in sides}
        return [pair for pair in self.pairs if {pair.one.group, pair.other.group} <= groups]

    def subject(self, side: Side) -> str:
        """A method as the subject of a sentence."""
        return f"{self.key} {side.name}".strip()


def held(groups: Sequence[Sequence[Point]], measure: str) -> list[Contest]:
    """The contests at all budgets by one measure, with all tests as one family."""
    family = Family(measure)
    contests, ends = [], [0]
    for group in groups:
        contest = _contest(ranked(group, measure))
        family.add_all(contest.methods, contest.trivial)
        for axis in contest.axes:
            family.add_all(axis.sides)
        contests.append(contest)
        ends.append(family.size)
    pairs = family.pairs()
    return [
        Contest(c.points, c.methods, c.trivial, c.axes, c.key, pairs[start:end])
        for c, start, end in zip(contests, ends, ends[1:], strict=False)
    ]


def _contest(points: Sequence[Point]) -> Contest:
    methods = [point for point in points if point.kind == "run"]
    trivial = [point for point in points if point.is_trivial]
    if not methods:
        methods, trivial = list(points), []
    key, names = _names(methods)
    sides = [Side(names[point.group], [point]) for point in methods]
    return Contest(points, sides, [Side(point.name, [point]) for point in trivial], _axes(methods), key)


def _varied(points: Sequence[Point]) -> dict[str, str]:
    """The keys in which the points differ, each with its short name."""
    keys = list(dict.fromkeys(key for point in points for key in point.axes))
    short = dict(zip(keys, short_names(keys), strict=True))
    return {key: short[key] for key in keys if len({label(point.axes.get(key)) for point in points}) > 1}


def _names(points: Sequence[Point]) -> tuple[str, Mapping[str, str]]:
    """The points by the values in which they differ, by group; and the key, where one number says it all."""
    varied = _varied(points)
    whole = all(varied.keys() <= point.axes.keys() for point in points)
    several = len(varied) > 1
    names = {p.group: ", ".join(_value(p, key, short, several) for key, short in varied.items()) for p in points}
    if not varied or not whole or len(set(names.values())) < len(points):
        return "", {point.group: point.name for point in points}
    [key, *more] = varied
    numbers = not more and not any(_speaks(point.axes[key]) for point in points)
    return varied[key] if numbers else "", names


def _value(point: Point, key: str, short: str, several: bool) -> str:
    shown = label(point.axes.get(key))
    return f"{short} {shown}" if several and not _speaks(point.axes.get(key)) else shown


def _speaks(value: object) -> bool:
    """Whether a value says by itself what it is about."""
    return isinstance(value, str) and value not in ("none", "true", "false")


def _axes(points: Sequence[Point]) -> list[VariedKey]:
    """The keys whose values can be compared each over the same combinations of all others."""
    varied = _varied(points)
    if len(varied) < 2:
        return []
    axes = []
    for key, short in varied.items():
        others = [other for other in varied if other != key]
        by_value: dict[str, dict[tuple[str, ...], Point]] = {}
        for point in points:
            rest = tuple(label(point.axes.get(other)) for other in others)
            by_value.setdefault(label(point.axes.get(key)), {})[rest] = point
        combinations = {frozenset(cells) for cells in by_value.values()}
        if len(combinations) == 1 and sum(map(len, by_value.values())) == len(points):
            sides = [Side(name, list(cells.values())) for name, cells in by_value.items()]
            axes.append(VariedKey(short, [varied[other] for other in others], sides))
    return axes
