"""The figure of `quality.py`: what each way of compressing makes of the perplexity, one plot a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from swm.report.style import BLUE, INK, LINE, ORANGE, SOFT, STYLE

# Beyond this many times the dense perplexity, models tell nothing apart.
TOP = 30.0
KINDS = {
    "removed": (SOFT, "o", "removed, nothing repaired"),
    "merged": (ORANGE, "D", "layers merged without looking at activations"),
    "repaired": (BLUE, "s", "refitted in closed form"),
}
GREEN = "#2a8f6d"
TRAINED = (GREEN, "^", "trained for some minutes")


def draw(values: Mapping[str, Mapping[str, tuple[float, str]]], file: Path) -> None:
    """`values` are, by budget and name, how many times the dense perplexity and the kind; `file` is a PNG."""
    kinds = {**KINDS, "trained": TRAINED}
    sizes = [size for size, rows in values.items() if rows]
    with style.context(["default", dict(STYLE)]):
        canvas = Figure(figsize=(16.0, 1.6 + 0.2 * sum(_tallest(values, pair) for pair in _pairs(sizes))))
        FigureCanvasAgg(canvas)
        heights = [_tallest(values, pair) for pair in _pairs(sizes)]
        grid = canvas.subplots(len(heights), 2, squeeze=False, gridspec_kw={"height_ratios": heights})
        for axes in grid.flat[len(sizes) :]:
            axes.set_visible(False)
        for axes, size in zip(grid.flat, sizes, strict=False):
            ranked = sorted(values[size].items(), key=lambda item: -item[1][0])
            for place, (_, (times, kind)) in enumerate(ranked):
                colour, mark, _ = kinds[kind]
                shown = min(times, TOP)
                axes.plot([1, shown], [place, place], color=LINE, linewidth=1, zorder=1)
                axes.plot(shown, place, mark, color=colour, markersize=5.5, zorder=2)
                number = f"{times:.2f}" if times < TOP else f"{times:.0f} →" if times < 1000 else f"{times:.0e} →"
                axes.annotate(number, (shown, place), (6, 0), textcoords="offset points", va="center", fontsize=7.5)
            axes.set_yticks(range(len(ranked)), [name for name, _ in ranked], color=INK)
            axes.set_ylim(-0.7, len(ranked) - 0.3)
            axes.set_xscale("log")
            axes.set_xlim(1, TOP * 2.2)
            axes.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
            axes.minorticks_off()
            axes.tick_params(length=0)
            axes.xaxis.grid(color=LINE, linewidth=0.5)
            axes.set_axisbelow(True)
            axes.spines["left"].set_visible(False)
            axes.set_xlabel("perplexity, times that of the original model")
            told = size if "layers" in size else f"{size} of the parameters"
            axes.set_title(f"{told} removed", loc="left", fontsize=10, fontweight="bold")
        present = {kind for rows in values.values() for _, kind in rows.values()}
        handles = [
            canvas.axes[0].plot([], [], mark, color=colour, markersize=5.5, label=told)[0]
            for kind, (colour, mark, told) in kinds.items()
            if kind in present
        ]
        canvas.legend(handles=handles, loc="outside upper left", ncols=len(handles))
        canvas.savefig(file, metadata={"Software": None})
        canvas.savefig(file.with_suffix(".svg"), metadata={"Date": None, "Creator": None})


def _pairs(sizes: Sequence[str]) -> list[Sequence[str]]:
    return [sizes[i : i + 2] for i in range(0, len(sizes), 2)]


def _tallest(values: Mapping[str, Mapping[str, tuple[float, str]]], sizes: Sequence[str]) -> int:
    return max(len(values[size]) for size in sizes) + 3
