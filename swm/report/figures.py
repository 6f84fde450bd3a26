"""Figures of an inspection in one style, as PNG and SVG files that are the same every time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from swm.escapes import figure_text, one_line
from swm.measure.expert_load import ExpertLoad
from swm.measure.inspection import Inspection
from swm.model.ranges import format_ranges
from swm.report.sentences import text_name
from swm.report.style import BLUE, LINE, ORANGE, SOFT, STYLE, log_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHADES = ("#f7fafc", "#c9ddec", "#7fb0d3", "#3a7cb8", "#1f5a94", "#0d2f57")


def write_figures(inspection: Inspection, folder: Path) -> None:
    """Draw `similarity`, `influence` and `norms` into the folder, each as `.png` and as `.svg` with text as text.

    For a model with experts, also `experts`.
    """
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawings = {"similarity": draw_similarity, "influence": draw_influence, "norms": draw_norms}
    if inspection.experts:
        drawings["experts"] = draw_experts
    # From the defaults on, so that nobody's own settings of matplotlib change a figure, and for this block alone.
    with style.context(["default", dict(STYLE)]):
        for name, draw in drawings.items():
            figure = Figure()
            FigureCanvasAgg(figure)
            draw(figure, inspection)
            figure.savefig(folder / f"{name}.png", metadata={"Software": None})
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})


def draw_similarity(figure: Figure, inspection: Inspection) -> None:
    """A heat map of the similarity of all pairs of layers, the patches outlined."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    figure.set_size_inches(6.4, 6.0)
    axes = figure.add_subplot()
    colours = LinearSegmentedColormap.from_list("shades", SHADES)
    # An image, enlarged here: a shape a cell makes an SVG of a deep model a megabyte, and viewers smooth small images.
    size = len(inspection.layers)
    cells = axes.imshow(
        inspection.similarity, cmap=colours, origin="lower", extent=(0, size, 0, size), interpolation="nearest"
    )
    for patch in inspection.patches:
        side = patch.removed + 1
        outline = Rectangle((patch.first, patch.first), side, side, fill=False, edgecolor=ORANGE, linewidth=1.8)
        axes.add_patch(outline).set_clip_on(False)
    axes.spines[:].set_visible(False)
    for axis in (axes.xaxis, axes.yaxis):
        ticks = _ticks(len(inspection.layers))
        axis.set_ticks([i + 0.5 for i in ticks], [str(inspection.layers[i]) for i in ticks])
        axis.set_tick_params(length=0)
    axes.set(xlabel="output of layer", ylabel="output of layer")
    _colour_bar(figure, cells, "similarity", shrink=0.8)
    patches = ", ".join(format_ranges(layers) for layers in inspection.patch_layers()) or "none"
    about = [_metric(inspection), f"patches (all pairs at least {inspection.patch_threshold:.3f}): {patches}"]
    _title(axes, "Similarity of layers", inspection, about)


def draw_influence(figure: Figure, inspection: Inspection) -> None:
    """The block influence of every layer as bars; those far above the others are cut, with their value written."""
    figure.set_size_inches(7.2, 3.4)
    axes = figure.add_subplot()
    values, positions = inspection.influence, range(len(inspection.layers))
    usual = median(values)
    top = 1.15 * max((value for value in values if value <= 5 * usual), default=1.0) or 1.0
    axes.bar(positions, [min(value, top) for value in values], width=0.75, color=BLUE)
    for position, value in enumerate(values):
        if value > top:
            axes.text(position, top * 1.015, f"{value:.2g} ↑", ha="center", va="bottom", color=ORANGE, fontsize=8)
    axes.set_ylim(0, top)
    axes.set_xlim(-0.6, len(values) - 0.4)
    _layer_ticks(axes, inspection.layers)
    axes.set_xlabel("layer")
    axes.set_ylabel("block influence")
    axes.yaxis.grid(color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.locator_params(axis="y", nbins=6)
    about = ["1 − mean cosine of a token before and after the layer (ShortGPT)"]
    _title(axes, "Block influence", inspection, about, rise=20 if max(values) > top else 6)


def draw_norms(figure: Figure, inspection: Inspection) -> None:
    """The norms of tokens at every boundary, and how much of a sample its largest token is."""
    figure.set_size_inches(7.2, 4.8)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    norms, positions = inspection.norms, range(len(inspection.norms))
    above.plot(positions, [each.max for each in norms], color=ORANGE, label="largest token")
    above.plot(positions, [each.mean_first for each in norms], color=ORANGE, ls=":", label="first tokens, mean")
    above.plot(positions, [each.mean_rest for each in norms], color=BLUE, label="all other tokens, mean")
    log_scale(above)
    above.set_ylabel("norm")
    above.legend(loc="lower left", ncols=3, borderaxespad=0, bbox_to_anchor=(0, 1.02), handlelength=1.6)
    shares = [100 * each.largest_share for each in norms]
    below.bar(positions, shares, width=0.75, color=BLUE)
    below.set(ylim=(0, 100), ylabel="largest token's\nshare, %", xlabel="entering layer (end: leaving the last one)")
    below.set_xlim(-0.6, len(norms) - 0.4)
    _layer_ticks(below, [*inspection.layers, "end"])
    for axes in (above, below):
        axes.yaxis.grid(color=LINE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, which="both")
    about = ["share: of the squared norms of a sample, the weight in a cosine of flattened samples"]
    _title(above, "Norms of hidden states", inspection, about, rise=24)


def draw_experts(figure: Figure, inspection: Inspection) -> None:
    """A heat map of how many tokens each expert was given, in shares of what it would be given if all had as many."""
    from matplotlib.colors import LinearSegmentedColormap

    loads = inspection.experts
    most = max(len(load.share) for load in loads)
    rows = [_even_shares(load) + [math.nan] * (most - len(load.share)) for load in loads]
    figure.set_size_inches(7.2, max(2.6, min(8.0, 1.4 + 0.16 * len(loads))))
    axes = figure.add_subplot()
    colours = LinearSegmentedColormap.from_list("shades", SHADES)
    extent = (-0.5, most - 0.5, 0, len(loads))
    cells = axes.imshow(
        rows, cmap=colours, origin="lower", extent=extent, interpolation="nearest", aspect="auto", vmin=0
    )
    axes.spines[:].set_visible(False)
    ticks = _ticks(len(loads))
    axes.set_yticks([i + 0.5 for i in ticks], [str(loads[i].layer) for i in ticks])
    axes.set_xticks(_ticks(most))
    axes.tick_params(length=0)
    axes.set(xlabel="expert", ylabel="layer")
    _colour_bar(figure, cells, "tokens, in even shares", shrink=0.9)
    unused = sum(share == 0 for load in loads for share in load.share)
    takes = ", ".join(map(str, sorted({load.top_k for load in loads})))
    about = [f"a token takes {takes} of {most} experts; an even share is 1. Experts without a token: {unused}"]
    _title(axes, "Load of experts", inspection, about)


def _colour_bar(figure: Any, cells: Any, label: str, shrink: float) -> None:
    """What the colours of the cells mean, beside them; `shrink` is its length as a part of theirs."""
    bar = figure.colorbar(cells, shrink=shrink, aspect=30, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    bar.set_label(label)


def _even_shares(load: ExpertLoad) -> list[float]:
    """What each expert of a layer was given, 1 where all are given as many tokens."""
    return [share * len(load.share) / load.top_k for share in load.share]


def _title(axes: Axes, title: str, inspection: Inspection, about: Iterable[str], rise: float = 6) -> None:
    """Write the title of a figure, and below it in small letters what is shown.

    Args:
        axes: The uppermost axes of the figure.
        title: What the figure shows.
        inspection: The inspection, which names the model and the text.
        about: Lines about the measure.
        rise: The distance from the axes in points.
    """
    data = inspection.calibration
    text = f"calibration: {text_name(data)}, {data['samples']} samples of {data['seq_len']} tokens"
    if "images" in data:
        text += f", {data['images']} of them with an image"
    lines = [line for given in (*about, text) for line in wrap(given, 96)]
    small: dict[str, Any] = {"color": SOFT, "fontsize": 8.5, "linespacing": 1.35}
    axes.annotate(figure_text("\n".join(lines)), (0, 1), (0, rise), "axes fraction", "offset points", **small)
    pad = rise + 12 * len(lines) + 5
    axes.set_title(
        figure_text(f"{title}: {one_line(inspection.model)}"), loc="left", fontsize=12, fontweight="bold", pad=pad
    )


def _metric(inspection: Inspection) -> str:
    """The metric with its parameters."""
    parameters = {key: value for key, value in inspection.metric.items() if key != "name"}
    written = ", ".join(f"{key}: {value}" for key, value in parameters.items())
    return f"{inspection.metric['name']} ({written})" if written else str(inspection.metric["name"])


def _layer_ticks(axes: Axes, labels: Sequence[int | str]) -> None:
    ticks = _ticks(len(labels))
    axes.set_xticks(ticks, [str(labels[i]) for i in ticks])
    axes.tick_params(length=0)


def _ticks(count: int) -> list[int]:
    """Positions that are labelled: the first, the last, and between them as many as there is room for."""
    step = next(step for step in (1, 2, 5, 10, 20, math.inf) if count / step <= 20)
    inner = [i for i in range(0, count - 1) if i % step == 0 and count - 1 - i >= step]
    return [*inner, count - 1]
