"""Which points an axis can hold: infinite values and what is not a number are named below it instead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import wrap

from swm.study.points import Point


def drawable(point: Point, measure: str) -> bool:
    """Whether a point can be drawn, as far as this measure goes."""
    estimate = point.estimates.get(measure)
    return estimate is None or math.isfinite(estimate.value)


def names_left_out(points: Sequence[Point], drawn: Sequence[Point]) -> list[str]:
    """Lines that name the points that no axis can hold."""
    names = [point.name for point in points if not any(point is other for other in drawn)]
    return wrap(f"infinite or not a number: {', '.join(names)}", 80) if names else []
