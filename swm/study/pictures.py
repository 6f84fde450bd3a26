"""The figures of a study, as PNG, SVG and PDF files that are the same every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from swm.errors import StudyError
from swm.escapes import figure_text
from swm.measure.metrics import Metric
from swm.report.style import BLUE, INK, LINE, ORANGE, SOFT, STYLE
from swm.study.description import Figure
from swm.study.measures import LABELS, MEAN, SCALES, named, scale_of
from swm.study.naming import INSTEAD, label, nearest_key
from swm.study.table import Estimate, Point, axes, pareto

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

COLOURS = (BLUE, ORANGE, "#2a8f6d", "#8e4a9e", "#b38a00", "#c2407a", "#4a4f57", "#56a5c9")
MARKS = "osD^vPX*"
FORMATS: Mapping[str, Mapping[str, Any]] = {
    "png": {"metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}


def write_pictures(figures: Sequence[Figure], points: Sequence[Point], folder: Path) -> list[str]:
    """Draw the study's own figures and the trade between size and quality; returns their names.

    Raises StudyError for a figure of something that was neither varied nor measured.
    """
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    drawings: dict[str, Callable[[Canvas], None]] = {}
    for figure in figures:
        ready = _Ready(figure, points)
        drawings[figure.name] = ready.draw
    if len(points) > 1 and _qualities(points):
        drawings.setdefault("pareto", lambda canvas: draw_pareto(canvas, points))
    with style.context(["default", {**STYLE, "pdf.fonttype": 42, "legend.fontsize": 8}]):
        for name, draw in drawings.items():
            canvas = Canvas()
            FigureCanvasAgg(canvas)
            draw(canvas)
            for kind, options in FORMATS.items():
                canvas.savefig(folder / f"{name}.{kind}", **options)
    return list(drawings)


class _Ready:
    """A figure with its keys found among those that were varied and measured."""

    def __init__(self, figure: Figure, points: Sequence[Point]) -> None:
        self.figure = figure
        self.points = points
        rows = [row for point in points for row in point.rows]
        keys = {**{key: key for key in axes(rows)}, **{short: key for key, short in axes(rows).items()}}
        measures = list(dict.fromkeys(name for point in points for name in point.estimates))
        self.x = self._found(figure.x, "x", {**keys, **{name: name for name in measures}})
        self.by = None if figure.by is None else self._found(figure.by, "by", keys)
        self.y = [self._found(name, "y", {name: name for name in measures}) for name in figure.y]

    def _found(self, name: str, what: str, known: Mapping[str, str]) -> str:
        if name not in known:
            raise StudyError(f"unknown {what} '{name}' of figure '{self.figure.name}'; {nearest_key(name, [*known])}")
        return known[name]

    def draw(self, canvas: Canvas) -> None:
        """One set of axes for all measures, or one each where lines are told apart by something else."""
        plots = [[name] for name in self.y] if self.by is not None else [self.y]
        canvas.set_size_inches(max(5.2, 4.6 * len(plots)), 4.0)
        found = canvas.subplots(1, len(plots), squeeze=False)[0]
        for axes_, measures in zip(found, plots, strict=True):
            self._plot(axes_, measures)
        if self.figure.title:
            canvas.suptitle(figure_text(self.figure.title), x=0.01, ha="left", fontsize=11, fontweight="bold")

    def _plot(self, axes_: Axes, measures: Sequence[str]) -> None:
        placed = [point for point in self.points if self._place(point) is not None and point.kind != "dense"]
        shown = [point for point in placed if all(_finite(point, name) for name in (self.x, *measures))]
        places = list(dict.fromkeys(self._place(point) for point in shown))
        if all(isinstance(place, int | float) for place in places):
            self._lines(axes_, measures, shown)
            if len(places) <= 9 and self.x not in LABELS:
                axes_.set_xticks(sorted(places), [f"{place:g}" for place in sorted(places)])
        else:
            self._bars(axes_, measures, shown, places)
        self._dense(axes_, measures)
        if shown and all(self._scale(measure).grows for measure in measures):
            axes_.set_yscale("log")
        what = self._named(self.x) if self.x in LABELS else self.figure.x.rpartition(".")[2]
        axes_.set_xlabel(figure_text("\n".join([what, *_left_out(placed, shown)])))
        alike = all(self._scale(measure).share for measure in measures)
        axes_.set_ylabel(figure_text(self._named(measures[0])) if len(measures) == 1 else "accuracy, %" * alike)
        axes_.yaxis.grid(color=LINE, linewidth=0.6)
        axes_.set_axisbelow(True)
        if axes_.get_legend_handles_labels()[0]:
            axes_.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=3, borderaxespad=0, handlelength=2)

    def _scale(self, measure: str) -> Metric:
        return scale_of(measure, [row for point in self.points for row in point.rows])

    def _named(self, measure: str) -> str:
        return named(measure, self._scale(measure))

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

    def _lines(self, axes_: Axes, measures: Sequence[str], shown: Sequence[Point]) -> None:
        from matplotlib.transforms import offset_copy

        several = len(measures) > 1
        # The baselines of many measures would hide what the figure is about.
        shown = [point for point in shown if point.kind != "baseline"] if several else shown
        lines = [(group, members, measure) for group, members in self._groups(shown).items() for measure in measures]
        for colour, (group, members, measure) in enumerate(lines):
            have = sorted((p for p in members if measure in p.estimates), key=self._place)
            found = [(self._place(point), point.estimates[measure]) for point in have]
            # With a transform of their own, points do not count for the limits by themselves.
            ends = [(place, value.value + sign * (value.half or 0)) for place, value in found for sign in (-1, 1)]
            axes_.update_datalim(ends)
            solid = not several or measure == (self.figure.bold or MEAN)
            trivial = all(point.is_trivial for point in have)
            axes_.errorbar(
                [place for place, _ in found],
                [value.value for _, value in found],
                yerr=[value.half or 0 for _, value in found],
                color=SOFT if trivial else COLOURS[colour % len(COLOURS)],
                linestyle="--" if trivial else "-" if solid else ":",
                linewidth=2 if solid and not trivial else 1.2,
                marker=MARKS[colour % len(MARKS)],
                markersize=4.5,
                capsize=2.5,
                elinewidth=0.9,
                label=_legend(group, self._named(measure) if several else ""),
                # Side by side, or the intervals at one place would hide each other.
                transform=offset_copy(
                    axes_.transData, axes_.get_figure(root=True), (colour - (len(lines) - 1) / 2) * 3, units="points"
                ),
            )

    def _bars(self, axes_: Axes, measures: Sequence[str], shown: Sequence[Point], places: Sequence[Any]) -> None:
        # Those that the study added have no place of their own on this axis.
        shown = [point for point in shown if point.kind != "baseline"]
        groups = [(g, m, p) for g, p in self._groups(shown).items() for m in measures]
        width = 0.8 / max(1, len(groups))
        for i, (group, measure, members) in enumerate(groups):
            have = [point for point in members if measure in point.estimates]
            at = [places.index(self._place(point)) + (i - (len(groups) - 1) / 2) * width for point in have]
            trivial = all(point.is_trivial for point in have)
            axes_.bar(
                at,
                [point.estimates[measure].value for point in have],
                width * 0.92,
                yerr=[point.estimates[measure].half or 0 for point in have],
                color=LINE if trivial else COLOURS[i % len(COLOURS)],
                error_kw={"ecolor": INK, "capsize": 2.5, "elinewidth": 0.9},
                label=_legend(group, self._named(measure) if len(measures) > 1 else ""),
            )
        axes_.set_xticks(range(len(places)), [figure_text(label(place)) for place in places], rotation=15, ha="right")

    def _dense(self, axes_: Axes, measures: Sequence[str]) -> None:
        dense = [point for point in self.points if point.kind == "dense" and measures[0] in point.estimates]
        if len(measures) == 1 and dense and self.x not in LABELS and _finite(dense[0], measures[0]):
            axes_.axhline(dense[0].estimates[measures[0]].value, color=INK, linewidth=1, linestyle=":", label="dense")


def _finite(point: Point, measure: str) -> bool:
    """Whether a point can be drawn, as far as this measure goes."""
    found = point.estimates.get(measure)
    return found is None or math.isfinite(found.value)


def _left_out(points: Sequence[Point], drawn: Sequence[Point]) -> list[str]:
    """Lines that name the points that no axis can hold."""
    names = [point.name for point in points if not any(point is other for other in drawn)]
    return wrap(f"infinite or not a number: {', '.join(names)}", 80) if names else []


def _legend(*parts: str) -> str | None:
    """The name of a line; None where there is nothing to say."""
    return figure_text(", ".join(filter(None, parts))) or None


def _qualities(points: Sequence[Point]) -> list[str]:
    drawn = [(name, point) for name in (MEAN, "perplexity") for point in points if name in point.estimates]
    return list(dict.fromkeys(name for name, point in drawn if _finite(point, name)))


def draw_pareto(canvas: Canvas, points: Sequence[Point]) -> None:
    """Quality over parameters for every run, those on the front in colour and named."""
    qualities = _qualities(points)
    canvas.set_size_inches(max(5.6, 5.2 * len(qualities)), 4.4)
    front = pareto(points)
    for axes_, measure in zip(canvas.subplots(1, len(qualities), squeeze=False)[0], qualities, strict=True):
        named_at: set[tuple[float, float]] = set()
        for point in points:
            found = point.estimates.get(measure)
            if found is not None and _finite(point, measure):
                place = point.estimates["parameters"].value, found.value
                _dot(axes_, point, found, point.group in front, place not in named_at)
                named_at.add(place)
        if measure == "perplexity":
            axes_.set_yscale("log")
        drawn = [point for point in points if _finite(point, measure)]
        axes_.set_xlabel(figure_text("\n".join(["parameters, millions", *_left_out(points, drawn)])))
        axes_.set_ylabel(named(measure, SCALES[measure]))
        axes_.yaxis.grid(color=LINE, linewidth=0.6)
        axes_.set_axisbelow(True)
    canvas.suptitle("Size and quality", x=0.01, ha="left", fontsize=11, fontweight="bold")


def _dot(axes_: Axes, point: Point, found: Estimate, best: bool, name: bool) -> None:
    millions = point.estimates["parameters"].value / 1e6
    colour = INK if point.kind == "dense" else BLUE if best else ORANGE if point.is_trivial else SOFT
    axes_.errorbar(
        [millions], [found.value], yerr=[found.half or 0], color=colour, marker="o" if best else "x", markersize=5,
        capsize=2, elinewidth=0.8, alpha=1 if best else 0.6,
    )  # fmt: skip
    if best and name:
        text = figure_text(point.name if len(point.name) < 40 else f"{point.name[:38]}…")
        axes_.annotate(text, (millions, found.value), (4, 4), textcoords="offset points", fontsize=6.5, color=colour)
