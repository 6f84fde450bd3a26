"""The trade between size and quality, drawn, with the points that no other beats."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING

from swm.escapes import figure_text
from swm.measure.metrics import Metric
from swm.report.style import BLUE, INK, LINE, ORANGE, SOFT, log_scale
from swm.study.drawable import drawable, names_left_out
from swm.study.measures import MEAN, measure_label
from swm.study.points import Estimate, Point
from swm.study.ranking import pareto

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.lines import Line2D

# What the horizontal axis has, or what says nothing of quality.
SIZES = ("parameters", "layers", "ratio")


def qualities(points: Sequence[Point], rank_by: str | None = None) -> list[str]:
    """The measures of quality that some point can be drawn by; that which ranks them comes first."""
    ranking = (rank_by,) if rank_by is not None and rank_by not in SIZES else ()
    names = (*ranking, MEAN, "perplexity")
    drawn = [(name, point) for name in names for point in points if name in point.estimates]
    return list(dict.fromkeys(name for name, point in drawn if drawable(point, name)))


def draw_pareto(canvas: Canvas, points: Sequence[Point], rank_by: str | None = None) -> None:
    """Quality over parameters for every run, those on the front in colour and named.

    The first quality is what the study ranks by.
    """
    points = [point for point in points if not point.outside]
    measures = qualities(points, rank_by)
    canvas.set_size_inches(max(5.6, 5.2 * len(measures)), 4.4)
    front = pareto(points)
    for axes, measure in zip(canvas.subplots(1, len(measures), squeeze=False)[0], measures, strict=True):
        named_at: set[tuple[float, float]] = set()
        for point in points:
            quality = point.estimates.get(measure)
            if quality is not None and drawable(point, measure):
                place = point.estimates["parameters"].value, quality.value
                _dot(axes, point, quality, best=point.group in front, named=place not in named_at)
                named_at.add(place)
        if measure == "perplexity":
            log_scale(axes)
        drawn = [point for point in points if drawable(point, measure)]
        notes = [*_notes(drawn, measure), *names_left_out(points, drawn)]
        axes.set_xlabel(figure_text("\n".join(["parameters, millions", *notes])))
        axes.set_ylabel(measure_label(measure, _scale(points, measure)))
        axes.yaxis.grid(color=LINE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(handles=_legend(drawn, front), fontsize=6.5)
    canvas.suptitle("Size and quality", x=0.01, ha="left", fontsize=11, fontweight="bold")


def _scale(points: Sequence[Point], measure: str) -> Metric:
    return next(point for point in points if measure in point.estimates).scale(measure)


def _legend(points: Sequence[Point], front: Set[str]) -> list[Line2D]:
    """What each look of a point says, of those that are there."""
    from matplotlib.lines import Line2D

    looks = dict.fromkeys(_look(point, best=point.group in front) for point in points)
    return [
        Line2D([], [], linestyle="", color=colour, marker=mark, markersize=5, label=said)
        for said, colour, mark in looks
    ]


def _look(point: Point, *, best: bool) -> tuple[str, str, str]:
    """What a point is, its colour and its mark; `best` says that it is on the front."""
    mark = "o" if best else "x"
    if point.kind == "dense":
        return "original model", INK, mark
    if best:
        return "on the front: none is better in all", BLUE, mark
    return ("baseline", ORANGE, mark) if point.is_trivial else ("other run", SOFT, mark)


def _notes(points: Sequence[Point], measure: str) -> list[str]:
    shown = [point.estimates[measure] for point in points if measure in point.estimates]
    return ["bars: ± standard error"] if any(estimate.shown_error for estimate in shown) else []


def _dot(axes: Axes, point: Point, quality: Estimate, *, best: bool, named: bool) -> None:
    """Draw a point with its error.

    Args:
        axes: Where it is drawn.
        point: The point.
        quality: Its value on the vertical axis.
        best: Whether it is on the Pareto front.
        named: Whether its name stands beside it; only where it is on the front.
    """
    millions = point.estimates["parameters"].value / 1e6
    _, colour, mark = _look(point, best=best)
    axes.errorbar(
        [millions], [quality.value], yerr=[quality.shown_error or 0], color=colour, marker=mark,
        markersize=5, capsize=2, elinewidth=0.8, alpha=1 if best else 0.6,
    )  # fmt: skip
    if best and named:
        text = figure_text(point.name if len(point.name) < 40 else f"{point.name[:38]}…")
        axes.annotate(text, (millions, quality.value), (4, 4), textcoords="offset points", fontsize=6.5, color=colour)
