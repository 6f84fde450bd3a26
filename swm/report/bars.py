"""A number a layer as bars, in SVG, in the colours of the page's style."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from html import escape
from statistics import median

from swm.report.svg import COMPRESSED, DENSE, LINE, NARROW, WIDTH, label, number, svg

HEIGHT, LEFT, TOP = 96.0, 64.0, 14.0
# The digits of what is written at the axis and in the title of a bar.
DIGITS = 4
# So many times the median is cut.
FAR = 12


def layer_bars(title: str, values: Mapping[int, float], marked: Collection[int] = (), /) -> str:
    """A bar for each number, from zero, with the largest and the smallest number at the axis; `marked` ones stand out.

    Numbers of which some are below zero hang from the line of zero. A number far above all others is cut, and written
    above its bar.
    """
    high, low = _highest(values), min(0.0, *values.values())
    reach = (high - low) or 1.0
    first, last = min(values), max(values)
    step = (WIDTH - LEFT - 6) / (last - first + 1)
    width = max(step - 3, 1.0)

    def y(value: float) -> float:
        return TOP + HEIGHT * (high - min(value, high)) / reach

    parts = [f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y(0):.1f}" y2="{y(0):.1f}" stroke="{LINE}"/>']
    for value in dict.fromkeys((high, low)):
        parts.append(label(LEFT - 8, y(value) + 4, _short(value), "end"))
    for position, value in values.items():
        x = LEFT + (position - first) * step
        top, bottom = sorted((y(value), y(0)))
        name = f"{position}: {_short(value)}"
        parts.append(
            f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{max(bottom - top, 0.5):.1f}" rx="1" '
            f'fill="{COMPRESSED if position in marked else DENSE}"><title>{escape(name)}</title></rect>'
        )
        if value > high:
            # The first bar stands beside the number at the axis.
            parts.append(number(max(x + width / 2, LEFT + 24), TOP - 3, f"{_short(value)} ↑"))
    every = next(n for n in (1, 2, 5, 10, 20, math.inf) if n * step >= 2 * NARROW)
    shown = [position for position in values if (position - first) % every == 0]
    for position in shown:
        parts.append(number(LEFT + (position - first) * step + width / 2, TOP + HEIGHT + 16, str(position)))
    return svg(title, WIDTH, TOP + HEIGHT + 22, parts)


def _highest(values: Mapping[int, float]) -> float:
    """What the highest bar shows: the largest number, unless it is far above the usual one and nothing is negative."""
    largest, usual = max(0.0, *values.values()), median(values.values())
    if min(values.values()) < 0 or not 0 < FAR * usual < largest:
        return largest
    return 1.2 * max(value for value in values.values() if value <= FAR * usual)


def _short(value: float) -> str:
    return f"{value:.{DIGITS}g}"
