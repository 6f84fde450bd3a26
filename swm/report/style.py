"""The colours and lines that all figures share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT, LINE = "#17202c", "#5a6675", "#d5dbe3"

# Blue and orange are told apart with every kind of colour vision, and in print by their lightness.
BLUE, ORANGE = "#1f5a94", "#d9601a"

STYLE: Mapping[str, Any] = {
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.1,
    "font.family": "sans-serif",
    "font.size": 9,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "savefig.dpi": 160,
    "svg.fonttype": "none",
    "svg.hashsalt": "swm",
    "text.color": INK,
    "xtick.color": SOFT,
    "xtick.labelsize": 8,
    "ytick.color": SOFT,
    "ytick.labelsize": 8,
}


def log_scale(axes: Axes) -> None:
    """Make the vertical axis logarithmic, with plain numbers at its ticks where these are short."""
    from matplotlib.ticker import LogFormatterSciNotation

    class Plain(LogFormatterSciNotation):
        def __call__(self, x: float, pos: int | None = None) -> str:
            text: str = super().__call__(x, pos)
            return f"{x:g}" if text and 1e-3 < abs(x) < 1e5 else text

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(Plain())
    axes.yaxis.set_minor_formatter(Plain())
