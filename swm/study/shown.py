"""The results of a study as the command line and notebooks show them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from swm.interfaces.executor import Row
from swm.measure.metrics import format_number
from swm.shown.tables import Part, Table
from swm.study.columns import measured
from swm.study.measures import measure_label, scale_of
from swm.study.points import Point
from swm.study.verdict import Verdict


def results_parts(title: str, rows: Sequence[Row], ordered: Sequence[Point], verdicts: Sequence[Verdict]) -> list[Part]:
    """A row for each point, then the verdicts, then what was rejected.

    Args:
        title: The title of the study.
        rows: Its runs.
        ordered: Its points, the best first.
        verdicts: What is said of them.
    """
    columns = [name for name in measured(rows) if name != "seconds"]
    lines: list[list[Any]] = []
    for point in ordered:
        cells = [point.estimates.get(name) for name in columns]
        name = f"{point.name} (rejected)" if point.rejected else point.name
        lines.append([name, *("–" if cell is None else _number(cell.value, cell.half) for cell in cells)])
    heads = [measure_label(name, scale_of(name, rows)) for name in columns]
    rejected = [f"Rejected: {point.name}: {point.rejected}" for point in ordered if point.rejected]
    return [Table(["run", *heads], lines, title), *(verdict.sentence for verdict in verdicts), *rejected]


def _number(value: float, half: float | None) -> str:
    whole = math.isfinite(value) and value == int(value) and abs(value) >= 1
    shown = format_number(value, 0 if whole else 2)
    return shown if half is None else f"{shown} ± {format_number(half, 2)}"
