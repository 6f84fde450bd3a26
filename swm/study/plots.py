"""The figures of a study, as PNG, SVG and PDF files that are the same every time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def write_plots(figures: Sequence[Figure], points: Sequence[Point], folder: Path) -> list[str]:
    """Draw the study's own figures and the trade between size and quality; returns their names.

    Raises StudyError for a figure of something that was neither varied nor measured.
    """
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    drawings: dict[str, Callable[[Canvas], None]] = {}
    for figure in figures:
        drawings[figure.name] = FigurePlot(figure, points).draw
    if len(points) > 1 and qualities(points):
        drawings.setdefault("pareto", lambda canvas: draw_pareto(canvas, points))
    with style.context(["default", {**STYLE, "pdf.fonttype": 42, "legend.fontsize": 8}]):
        for name, draw in drawings.items():
            canvas = Canvas()
            FigureCanvasAgg(canvas)
            draw(canvas)
            for kind, options in FORMATS.items():
                canvas.savefig(folder / f"{name}.{kind}", **options)
    return list(drawings)
