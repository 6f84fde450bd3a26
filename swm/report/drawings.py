"""Drawings of a report as SVG text: what merged into what, widths, losses. Colours are those of the page's style."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from html import escape

from swm.model.windows import Window
from swm.report.bars import layer_bars as layer_bars
from swm.report.svg import COMPRESSED, DENSE, LINE, NARROW, TEXT, WIDTH, label, number, svg

Widths = Mapping[str, int | Sequence[int]]

UNITS = {
    "heads": "query heads",
    "kv_heads": "KV heads",
    "mlp": "MLP channels",
    "experts": "experts",
    "expert_channels": "channels of each expert",
}


def merge_drawing(original_layers: int, windows: Sequence[Window], removed: Collection[int] = (), /) -> str:
    """The original layers in a row, the remaining ones below, and a band from each window to its layer.

    Layers that are `removed` are empty boxes, from which nothing leads down.
    """
    starts = {window.first: window for window in windows}
    left, step = 90.0, (WIDTH - 100) / original_layers
    box = min(step - 3, 30.0)
    parts = [label(0, 38, "original"), label(0, 138, "compressed")]
    position = target = 0
    ends = [0.0, 0.0]
    merged = {i for window in windows for i in range(window.first, window.last + 1)}
    remaining = original_layers - (len(merged) - len(windows)) - len(set(removed) - merged)
    inset = left + (original_layers - remaining) * step / 2
    while position < original_layers:
        window = starts.get(position)
        if window is None and position in removed:
            parts.append(_gone(position, left + position * step, box))
            position += 1
            continue
        last = window.last if window else position
        x, width = left + position * step, (last - position) * step + box
        to = inset + target * step
        colour = COMPRESSED if window else DENSE
        name = f"layers {position} to {last} become one" if window else f"layer {position} stays"
        parts.append(
            f'<path d="M{x:.1f} 46 L{x + width:.1f} 46 L{to + box:.1f} 124 L{to:.1f} 124 Z" fill="{colour}" '
            f'opacity="{0.3 if window else 0.12}"><title>{name}</title></path>'
        )
        for i in range(position, last + 1):
            if i in removed:
                parts.append(_gone(i, left + i * step, box))
                continue
            parts.append(_box(left + i * step, 24, box, 22, colour, str(i) if box >= NARROW else ""))
        joined = str(position) if last == position else f"{position}–{last}"
        inside = box >= (NARROW if last == position else 7 * len(joined))
        parts.append(_box(to, 124, box, 22, colour, joined if inside else ""))
        # What is too long for its box stands below it, in the first of two rows that has room.
        row = next((row for row, end in enumerate(ends) if to >= end), None)
        if window and not inside and row is not None:
            parts.append(number(to + box / 2, 159 + 13 * row, joined))
            ends[row] = to + 44
        position, target = last + 1, target + 1
    if box < NARROW:
        parts += [number(left + i * step + box / 2, 18, str(i)) for i in range(0, original_layers, 10)]
    title = f"{original_layers} layers become {remaining}"
    return svg(title, WIDTH, 176, parts)


def width_bars(dense: Widths, compressed: Widths, /) -> str:
    """For each kind of width that changed, a bar a layer: the share of the original width that is left."""
    parts: list[str] = []
    top = 0.0
    for name in dense:
        before, after = dense[name], compressed.get(name, dense[name])
        layers = len(after) if isinstance(after, Sequence) else len(before) if isinstance(before, Sequence) else 1
        whole = max(_values(before, layers))
        values = _values(after, layers)
        if min(values) == whole:
            continue
        parts.append(label(0, top + 16, f"{UNITS.get(name, name)}: {_span(values)} of {whole}"))
        step = (WIDTH - 10) / layers
        for i, value in enumerate(values):
            height = 50 * value / whole
            place = f'x="{i * step:.1f}" width="{max(step - 3, 1):.1f}"'
            parts.append(f'<rect {place} y="{top + 24:.1f}" height="50" fill="{LINE}"/>')
            about = f"{value} of {whole}" if layers == 1 else f"layer {i}: {value} of {whole}"
            parts.append(
                f'<rect {place} y="{top + 74 - height:.1f}" height="{height:.1f}" fill="{COMPRESSED}">'
                f"<title>{about}</title></rect>"
            )
        top += 92
    return svg("widths that are left", WIDTH, max(top, 1), parts) if parts else ""


def loss_curve(points: Sequence[Sequence[float]], /) -> str:
    """The loss over the steps `[[step, loss], ...]`, with its first and last value written; "" if none is a number."""
    if not any(math.isfinite(loss) for _, loss in points):
        return ""
    left, right, top, bottom = 56.0, WIDTH - 16.0, 14.0, 176.0
    steps, losses = [p[0] for p in points], [p[1] for p in points if math.isfinite(p[1])]
    low, high = min(losses), max(losses)
    reach, rise = max(steps[-1] - steps[0], 1), max(high - low, 1e-9)

    def place(step: float, loss: float) -> tuple[float, float]:
        return left + (right - left) * (step - steps[0]) / reach, bottom - (bottom - top) * (loss - low) / rise

    parts = []
    for i in range(4):
        value = low + rise * i / 3
        y = place(steps[0], value)[1]
        parts.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{LINE}"/>')
        parts.append(label(left - 8, y + 4, f"{value:.2f}", "end"))
    line = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in points if math.isfinite(point[1]))
    parts.append(f'<polyline points="{line}" fill="none" stroke="{COMPRESSED}" stroke-width="2"/>')
    parts.append(label(left, bottom + 20, f"step {steps[0]:g}"))
    parts.append(label(right, bottom + 20, f"step {steps[-1]:g}, loss {losses[-1]:.3f}", "end"))
    return svg(f"loss from {losses[0]:.3f} to {losses[-1]:.3f}", WIDTH, 204, parts)


def _values(width: int | Sequence[int], layers: int) -> list[int]:
    return list(width) if isinstance(width, Sequence) else [width] * layers


def _span(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)} to {max(values)}"


def _box(x: float, y: float, width: float, height: float, colour: str, text: str) -> str:
    box = f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" fill="{colour}"/>'
    return box + _inside(x, y, width, text, "#fff")


def _gone(layer: int, x: float, width: float) -> str:
    """The box of a layer that is removed."""
    text = str(layer) if width >= NARROW else ""
    return (
        f'<g><title>layer {layer} is removed</title><rect x="{x + 0.5:.1f}" y="24.5" width="{max(width - 1, 1):.1f}" '
        f'height="21" rx="2" fill="none" stroke="{DENSE}" stroke-dasharray="3 2"/>'
        f"{_inside(x, 24, width, text, TEXT)}</g>"
    )


def _inside(x: float, y: float, width: float, text: str, colour: str) -> str:
    if not text:
        return ""
    size = 11 if width >= 18 and len(text) < 4 else 7
    return (
        f'<text x="{x + width / 2:.1f}" y="{y + 11 + size / 3:.1f}" text-anchor="middle" '
        f'font-size="{size}" fill="{colour}">{escape(text)}</text>'
    )
