"""The figures of a study, as PNG, SVG and PDF files that are the same every time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swm.errors import SwmError, brief
from swm.report.style import STYLE
from swm.study.figure_plot import FigurePlot
from swm.study.figures import Figure
from swm.study.pareto_plot import draw_pareto, qualities
from swm.study.points import Point

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

FORMATS: Mapping[str, Mapping[str, Any]] = {
    "png": {"metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}


@dataclass(frozen=True)
class Drawn:
    """The names of the figures that were drawn, and of those that could not be, with the reason."""

    names: Sequence[str]
    failed: Mapping[str, str]


def write_plots(figures: Sequence[Figure], points: Sequence[Point], folder: Path, rank_by: str | None = None) -> Drawn:
    """Draw the study's own figures and the trade between size and quality; one that fails stops no other.

    Args:
        figures: The figures of the study.
        points: What was measured.
        folder: Where the files go.
        rank_by: The measure that ranks the runs, which is the first quality.
    """
    from matplotlib import style

    drawings: dict[str, Callable[[Canvas], None]] = {
        figure.name: partial(_draw_figure, figure=figure, points=points) for figure in figures
    }
    inside = [point for point in points if not point.outside]
    if len(inside) > 1 and qualities(inside, rank_by):
        drawings.setdefault("pareto", partial(draw_pareto, points=inside, rank_by=rank_by))
    drawn, failed = [], {}
    with style.context(["default", {**STYLE, "pdf.fonttype": 42, "legend.fontsize": 8}]):
        for name, draw in drawings.items():
            try:
                _save(draw, folder, name)
                drawn.append(name)
            except Exception as error:  # whatever is wrong with a figure, the tables are right
                failed[name] = str(error) if isinstance(error, SwmError) else f"{type(error).__name__}: {brief(error)}"
                for kind in FORMATS:
                    (folder / f"{name}.{kind}").unlink(missing_ok=True)
    return Drawn(drawn, failed)


def _draw_figure(canvas: Canvas, figure: Figure, points: Sequence[Point]) -> None:
    FigurePlot(figure, points).draw(canvas)


def _save(draw: Callable[[Canvas], None], folder: Path, name: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas()
    FigureCanvasAgg(canvas)
    draw(canvas)
    for kind, options in FORMATS.items():
        canvas.savefig(folder / f"{name}.{kind}", **options)
