"""A figure of a study file, drawn: lines or bars of measures over a varied key or another measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from swm.errors import StudyError, did_you_mean
from swm.escapes import figure_text
from swm.measure.metrics import Metric
from swm.report.style import BLUE, INK, LINE, ORANGE, SOFT
from swm.study.columns import axis_names
from swm.study.drawable import drawable, names_left_out
from swm.study.figures import Figure
from swm.study.measures import LABELS, MEAN, measure_label, scale_of
from swm.study.naming import INSTEAD, label
from swm.study.points import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

COLOURS = (BLUE, ORANGE, "#2a8f6d", "#8e4a9e", "#b38a00", "#c2407a", "#4a4f57", "#56a5c9")
MARKS = "osD^vPX*"


class FigurePlot:
    """A figure whose axes are keys that were varied or measures."""

    def __init__(self, figure: Figure, points: Sequence[Point]) -> None:
        self.figure = figure
        self.points = points
        rows = [row for point in points for row in point.rows]
        keys = {**{key: key for key in axis_names(rows)}, **{short: key for key, short in axis_names(rows).items()}}
        measures = list(dict.fromkeys(name for point in points for name in point.estimates))
        self.x = self._known(figure.x, "x", {**keys, **{name: name for name in measures}})
        self.by = None if figure.by is None else self._known(figure.by, "by", keys)
        self.y = [self._known(name, "y", {name: name for name in measures}) for name in figure.y]

    def _known(self, name: str, what: str, known: Mapping[str, str]) -> str:
        """The full key of a name in the study file. Raises StudyError for a name that is not known."""
        if name not in known:
            allowed = f"allowed: {', '.join(known)}.{did_you_mean(name, known)}"
            raise StudyError(f"unknown {what} '{name}' of figure '{self.figure.name}'; {allowed}")
        return known[name]

    def draw(self, canvas: Canvas) -> None:
        """Draw one set of axes for all measures, or one for each measure where the lines differ in `by`."""
        plots = [[name] for name in self.y] if self.by is not None else [self.y]
        canvas.set_size_inches(max(5.2, 4.6 * len(plots)), 4.0)
        for axes, measures in zip(canvas.subplots(1, len(plots), squeeze=False)[0], plots, strict=True):
            self._plot(axes, measures)
        if self.figure.title:
            canvas.suptitle(figure_text(self.figure.title), x=0.01, ha="left", fontsize=11, fontweight="bold")

    def _plot(self, axes: Axes, measures: Sequence[str]) -> None:
        placed = [point for point in self.points if self._place(point) is not None and point.kind != "dense"]
        shown = [point for point in placed if all(drawable(point, name) for name in (self.x, *measures))]
        places = list(dict.fromkeys(self._place(point) for point in shown))
        if all(isinstance(place, int | float) for place in places):
            self._lines(axes, measures, shown)
            if len(places) <= 9 and self.x not in LABELS:
                axes.set_xticks(sorted(places), [f"{place:g}" for place in sorted(places)])
        else:
            self._bars(axes, measures, shown, places)
        self._dense(axes, measures)
        if shown and all(self._scale(measure).grows for measure in measures):
            axes.set_yscale("log")
        what = self._label(self.x) if self.x in LABELS else self.figure.x.rpartition(".")[2]
        axes.set_xlabel(figure_text("\n".join([what, *names_left_out(placed, shown)])))
        alike = all(self._scale(measure).share for measure in measures)
        axes.set_ylabel(figure_text(self._label(measures[0])) if len(measures) == 1 else "accuracy, %" * alike)
        axes.yaxis.grid(color=LINE, linewidth=0.6)
        axes.set_axisbelow(True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=3, borderaxespad=0, handlelength=2)

    def _scale(self, measure: str) -> Metric:
        return scale_of(measure, [row for point in self.points for row in point.rows])

    def _label(self, measure: str) -> str:
        return measure_label(measure, self._scale(measure))

    def _place(self, point: Point) -> Any:
        if self.x in point.estimates and self.x not in point.axes:
            return point.estimates[self.x].value
        return point.axes.get(self.x)

    def _groups(self, shown: Sequence[Point]) -> dict[str, list[Point]]:
        groups: dict[str, list[Point]] = {}
        for point in shown:
            if point.kind == "baseline":
                name = point.name.split(",")[0].partition(INSTEAD)[0]
            else:
                name = "" if self.by is None else label(point.axes.get(self.by, ""))
            groups.setdefault(name, []).append(point)
        return groups

    def _lines(self, axes: Axes, measures: Sequence[str], shown: Sequence[Point]) -> None:
        from matplotlib.transforms import offset_copy

        several = len(measures) > 1
        # The baselines of many measures would hide what the figure is about.
        shown = [point for point in shown if point.kind != "baseline"] if several else shown
        lines = [(group, members, measure) for group, members in self._groups(shown).items() for measure in measures]
        for colour, (group, members, measure) in enumerate(lines):
            have = sorted((p for p in members if measure in p.estimates), key=self._place)
            placed = [(self._place(point), point.estimates[measure]) for point in have]
            # With a transform of their own, points do not count for the limits by themselves.
            ends = [(place, value.value + sign * (value.half or 0)) for place, value in placed for sign in (-1, 1)]
            axes.update_datalim(ends)
            solid = not several or measure == (self.figure.bold or MEAN)
            trivial = all(point.is_trivial for point in have)
            axes.errorbar(
                [place for place, _ in placed],
                [value.value for _, value in placed],
                yerr=[value.half or 0 for _, value in placed],
                color=SOFT if trivial else COLOURS[colour % len(COLOURS)],
                linestyle="--" if trivial else "-" if solid else ":",
                linewidth=2 if solid and not trivial else 1.2,
                marker=MARKS[colour % len(MARKS)],
                markersize=4.5,
                capsize=2.5,
                elinewidth=0.9,
                label=_legend(group, self._label(measure) if several else ""),
                # Side by side, or the intervals at one place would hide each other.
                transform=offset_copy(
                    axes.transData, axes.get_figure(root=True), (colour - (len(lines) - 1) / 2) * 3, units="points"
                ),
            )

    def _bars(self, axes: Axes, measures: Sequence[str], shown: Sequence[Point], places: Sequence[Any]) -> None:
        """Draw groups of bars, a place on the axis for each value of x.

        Args:
            axes: Where they are drawn.
            measures: The measures, a bar each.
            shown: The points.
            places: The values of x, in the order of the axis.
        """
        # Those that the study added have no place of their own on this axis.
        shown = [point for point in shown if point.kind != "baseline"]
        groups = [(g, m, p) for g, p in self._groups(shown).items() for m in measures]
        width = 0.8 / max(1, len(groups))
        for i, (group, measure, members) in enumerate(groups):
            have = [point for point in members if measure in point.estimates]
            at = [places.index(self._place(point)) + (i - (len(groups) - 1) / 2) * width for point in have]
            trivial = all(point.is_trivial for point in have)
            axes.bar(
                at,
                [point.estimates[measure].value for point in have],
                width * 0.92,
                yerr=[point.estimates[measure].half or 0 for point in have],
                color=LINE if trivial else COLOURS[i % len(COLOURS)],
                error_kw={"ecolor": INK, "capsize": 2.5, "elinewidth": 0.9},
                label=_legend(group, self._label(measure) if len(measures) > 1 else ""),
            )
        axes.set_xticks(range(len(places)), [figure_text(label(place)) for place in places], rotation=15, ha="right")

    def _dense(self, axes: Axes, measures: Sequence[str]) -> None:
        dense = [point for point in self.points if point.kind == "dense" and measures[0] in point.estimates]
        if len(measures) == 1 and dense and self.x not in LABELS and drawable(dense[0], measures[0]):
            axes.axhline(dense[0].estimates[measures[0]].value, color=INK, linewidth=1, linestyle=":", label="dense")


def _legend(*parts: str) -> str | None:
    """The name of a line; None where there is nothing to say."""
    return figure_text(", ".join(filter(None, parts))) or None
