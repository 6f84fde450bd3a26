"""A figure of a study file, drawn: lines or bars of measures over a varied key or another measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from swm.escapes import figure_text
from swm.measure.metrics import Metric
from swm.report.style import BLUE, INK, LINE, ORANGE, SOFT, log_scale
from swm.study.drawable import drawable, names_left_out
from swm.study.figure_data import FigureData, MarkSeries
from swm.study.figures import Figure
from swm.study.measures import LABELS, MEAN, measure_label, scale_of
from swm.study.naming import label
from swm.study.points import Estimate, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

COLOURS = (BLUE, ORANGE, "#2a8f6d", "#8e4a9e", "#b38a00", "#c2407a", "#4a4f57", "#56a5c9")
MARKS = "osD^vPX*"


class FigurePlot:
    """A figure whose axes are keys that were varied or measures."""

    def __init__(self, figure: Figure, points: Sequence[Point]) -> None:
        self.figure = figure
        self.data = FigureData(figure, points)

    def draw(self, canvas: Canvas) -> None:
        """Draw one set of axes for all measures, or one for each measure where the lines differ in `by`."""
        plots = [[name] for name in self.figure.y] if self.figure.by else [list(self.figure.y)]
        canvas.set_size_inches(max(5.2, 4.6 * len(plots)), 4.0)
        for axes, measures in zip(canvas.subplots(1, len(plots), squeeze=False)[0], plots, strict=True):
            self._plot(axes, measures)
        if self.figure.title:
            canvas.suptitle(figure_text(self.figure.title), x=0.01, ha="left", fontsize=11, fontweight="bold")

    def _plot(self, axes: Axes, measures: Sequence[str]) -> None:
        data = self.data
        shown = data.shown(measures)
        places = list(dict.fromkeys(data.place(point) for point in shown))
        if all(isinstance(place, int | float) for place in places):
            # The baselines of many measures would hide what the figure is about.
            drawn = [point for point in shown if point.kind != "baseline"] if len(measures) > 1 else shown
            self._lines(axes, data.series(measures, drawn), several=len(measures) > 1)
            if len(places) <= 9 and data.x not in LABELS:
                axes.set_xticks(sorted(places), [f"{place:g}" for place in sorted(places)])
        else:
            # Those that the study added have no place of their own on this axis.
            drawn = [point for point in shown if point.kind != "baseline"]
            self._bars(axes, data.series(measures, drawn), places, several=len(measures) > 1)
        self._dense(axes, measures)
        if shown and all(self._scale(measure).grows for measure in measures):
            log_scale(axes)
        what = self._label(data.x) if data.over_measure else self.figure.x.rpartition(".")[2]
        notes = [*data.notes(measures, drawn), *names_left_out(data.placed(), shown)]
        axes.set_xlabel(figure_text("\n".join([what, *notes])))
        alike = all(self._scale(measure).share for measure in measures)
        axes.set_ylabel(figure_text(self._label(measures[0])) if len(measures) == 1 else "accuracy, %" * alike)
        axes.yaxis.grid(color=LINE, linewidth=0.6)
        axes.set_axisbelow(True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=3, borderaxespad=0, handlelength=2)

    def _scale(self, measure: str) -> Metric:
        return scale_of(measure, [row for point in self.data.points for row in point.rows])

    def _label(self, measure: str) -> str:
        return measure_label(measure, self._scale(measure))

    def _lines(self, axes: Axes, lines: Sequence[MarkSeries], *, several: bool) -> None:
        from matplotlib.transforms import offset_copy

        for i, line in enumerate(lines):
            marks = sorted(line.marks, key=lambda mark: mark[0])
            # With a transform of their own, points do not count for the limits by themselves.
            axes.update_datalim([(place, end) for place, value in marks for end in (value.low, value.high)])
            solid = not several or line.measure == (self.figure.bold or MEAN)
            colour = SOFT if line.trivial else COLOURS[i % len(COLOURS)]
            # Side by side, or the errors at one place would hide each other.
            aside = offset_copy(
                axes.transData, axes.get_figure(root=True), (i - (len(lines) - 1) / 2) * 3, units="points"
            )
            axes.errorbar(
                [place for place, _ in marks],
                [value.value for _, value in marks],
                yerr=[value.shown_error or 0 for _, value in marks],
                color=colour,
                linestyle="" if not line.joined else "--" if line.trivial else "-" if solid else ":",
                linewidth=2 if solid and not line.trivial else 1.2,
                marker=MARKS[i % len(MARKS)],
                markersize=4.5,
                capsize=2.5,
                elinewidth=0.9,
                label=_legend(line.group, self._label(line.measure) if several else ""),
                transform=aside,
            )
            _seeds(axes, marks, colour, transform=aside)

    def _bars(self, axes: Axes, lines: Sequence[MarkSeries], places: Sequence[Any], *, several: bool) -> None:
        """Draw groups of bars, a place on the axis for each value of x.

        Args:
            axes: Where they are drawn.
            lines: The series, a bar each at every place.
            places: The values of x, in the order of the axis.
            several: Whether bars are of several measures.
        """
        width = 0.8 / max(1, len(lines))
        for i, line in enumerate(lines):
            marks = [(places.index(place) + (i - (len(lines) - 1) / 2) * width, value) for place, value in line.marks]
            axes.bar(
                [place for place, _ in marks],
                [value.value for _, value in marks],
                width * 0.92,
                yerr=[value.shown_error or 0 for _, value in marks],
                color=LINE if line.trivial else COLOURS[i % len(COLOURS)],
                error_kw={"ecolor": INK, "capsize": 2.5, "elinewidth": 0.9},
                label=_legend(line.group, self._label(line.measure) if several else ""),
            )
            _seeds(axes, marks, INK)
        axes.set_xticks(range(len(places)), [figure_text(label(place)) for place in places], rotation=15, ha="right")

    def _dense(self, axes: Axes, measures: Sequence[str]) -> None:
        dense = [point for point in self.data.points if point.kind == "dense" and measures[0] in point.estimates]
        if len(measures) == 1 and dense and not self.data.over_measure and drawable(dense[0], measures[0]):
            axes.axhline(dense[0].estimates[measures[0]].value, color=INK, linewidth=1, linestyle=":", label="dense")


def _seeds(axes: Axes, marks: Sequence[tuple[Any, Estimate]], colour: str, **options: Any) -> None:
    """Draw a dot for each seed of a mark that has too few of them for an error."""
    dots = [(place, seed) for place, value in marks for seed in value.seeds]
    if dots:
        xs, ys = zip(*dots, strict=True)
        axes.plot(xs, ys, linestyle="", marker=".", markersize=4, color=colour, alpha=0.6, **options)


def _legend(*parts: str) -> str | None:
    """The name of a line; None where there is nothing to say."""
    return figure_text(", ".join(filter(None, parts))) or None
