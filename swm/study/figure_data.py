"""What a figure of a study file shows: which points, in which lines, at which places."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from swm.errors import StudyError, SwmError, did_you_mean
from swm.study.axis_names import key_named
from swm.study.columns import axis_names
from swm.study.drawable import drawable
from swm.study.figures import Figure
from swm.study.naming import INSTEAD, axes_label, label
from swm.study.points import Estimate, Point
from swm.study.space import is_number


@dataclass(frozen=True)
class MarkSeries:
    """The marks of a line, by their places; `joined` says whether one leads to the next."""

    group: str
    measure: str
    marks: Sequence[tuple[Any, Estimate]]
    trivial: bool
    joined: bool = True


class FigureData:
    """The axes of a figure, and what is drawn on them. Raises StudyError for what was neither varied nor measured."""

    def __init__(self, figure: Figure, points: Sequence[Point]) -> None:
        self.figure = figure
        self.points = [point for point in points if not point.outside]
        names = axis_names(row for point in self.points for row in point.rows)
        self.measures = list(dict.fromkeys(name for point in self.points for name in point.estimates))
        self._short = names
        if figure.x in self.measures:
            self.x = figure.x
        else:
            self.x = self._key("x", figure.x, self.measures)
        self.by = [self._key("by", name) for name in figure.by]
        for name in figure.y:
            if name not in self.measures:
                allowed = f"allowed: {', '.join(self.measures)}.{did_you_mean(name, self.measures)}"
                raise StudyError(f"unknown y '{name}' of figure '{figure.name}'; {allowed}")

    def _key(self, what: str, name: str, also: Sequence[str] = ()) -> str:
        try:
            return key_named(name, self._short, also)
        except SwmError as error:
            raise StudyError(f"{what} of figure '{self.figure.name}': {error.message}") from None

    @property
    def over_measure(self) -> bool:
        """Whether `x` is a measure."""
        return self.x in self.measures and self.x not in self._short

    def placed(self) -> list[Point]:
        """The points that have a place on the axis."""
        return [point for point in self.points if self.place(point) is not None and point.kind != "dense"]

    def shown(self, measures: Iterable[str]) -> list[Point]:
        """Those of them that an axis can hold."""
        names = [self.x, *measures]
        return [point for point in self.placed() if all(drawable(point, name) for name in names)]

    def place(self, point: Point) -> Any:
        """Where a point stands on the axis; None where it has no place there."""
        if self.over_measure:
            return point.estimates[self.x].value if self.x in point.estimates else None
        return point.axes.get(self.x)

    def rest(self, shown: Sequence[Point]) -> list[str]:
        """The keys in which points differ that the figure does not tell apart."""
        runs = [point for point in shown if point.kind != "baseline"]
        keys = [key for key in self._short if key != self.x and key not in self.by]
        return [key for key in keys if len({label(point.axes.get(key)) for point in runs}) > 1]

    def series(self, measures: Sequence[str], shown: Sequence[Point]) -> list[MarkSeries]:
        """A line for each group and measure, what stands at one place of a line averaged.

        Over a measure, points are joined only where they differ in one number, which leads along the line.
        """
        rest = self.rest(shown)
        numbers = all(is_number(point.axes.get(key)) for point in shown for key in rest if point.kind != "baseline")
        joined = not self.over_measure or (len(rest) <= 1 and numbers)
        lines = []
        for group, members in self._groups(shown).items():
            trivial = all(point.is_trivial for point in members)
            for measure in measures:
                have = [(self.place(p), p.estimates[measure]) for p in members if measure in p.estimates]
                lines.append(MarkSeries(group, measure, averaged(have) if joined else have, trivial, joined))
        return lines

    def notes(self, measures: Sequence[str], shown: Sequence[Point]) -> list[str]:
        """What must be said below the axis of how points are drawn."""
        series = self.series(measures, shown)
        marks = [estimate for line in series for _, estimate in line.marks]
        every = sum(point.kind != "dense" and name in point.estimates for point in shown for name in measures)
        fewer = len(marks) < every
        rest = [self._short[key] for key in self.rest(shown)]
        said = [f"means over {', '.join(rest)}" if rest else "means where several stand at one place"] if fewer else []
        said += ["bars: ± standard error"] if any(mark.shown_error for mark in marks) else []
        return said + (["dots: the seeds"] if any(mark.seeds for mark in marks) else [])

    def _groups(self, shown: Sequence[Point]) -> dict[str, list[Point]]:
        groups: dict[str, list[Point]] = {}
        for point in shown:
            if point.kind == "baseline":
                name = point.name.split(",")[0].partition(INSTEAD)[0]
            else:
                name = axes_label({key: point.axes.get(key, "") for key in self.by})
            groups.setdefault(name, []).append(point)
        return groups


def averaged(marks: Sequence[tuple[Any, Estimate]]) -> list[tuple[Any, Estimate]]:
    """The marks with those of one place as their mean, which has no error: they are no repetitions."""
    places: dict[Any, list[Estimate]] = {}
    for place, estimate in marks:
        places.setdefault(place, []).append(estimate)
    return [(p, each[0] if len(each) == 1 else Estimate(fmean(e.value for e in each))) for p, each in places.items()]
