"""The headline of a report: the few numbers that people ask for first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from swm.report.html_format import MINUS, fixed, measured, short, size
from swm.report.record import RunReport
from swm.report.summary import MeasureRow, perplexity_row, task_rows

Tone = Literal["gain", "cost", "same"]


@dataclass(frozen=True)
class Tile:
    """One number of the compressed model, that of the dense one, and what changed."""

    label: str
    value: str
    before: str
    change: str
    tone: Tone
    unit: str = ""


def headline(report: RunReport, speed: Mapping[str, Any]) -> list[Tile]:
    """Parameters, layers, perplexity, the tasks' average, speed and memory, as far as they are known."""
    before, after = report.model, report.compressed
    removed = before.layers - after.layers
    active = [] if report.active is None else [_active(*report.active)]
    tiles = [
        Tile("parameters", short(after.parameters), short(before.parameters), _percent(-report.removed_share), "gain"),
        *active,
        Tile(
            "layers",
            str(after.layers),
            str(before.layers),
            f"{MINUS}{removed}" if removed else "all kept",
            "gain" if removed else "same",
        ),
    ]
    if report.vocabularies is not None:
        tokens, left = report.vocabularies
        tiles.append(Tile("vocabulary size", short(left), short(tokens), _percent(left / tokens - 1), "gain"))
    row = perplexity_row(report)
    if row is not None and row.dense and row.compressed and row.ratio is not None:
        ratio = row.ratio
        tone: Tone = "gain" if ratio <= 1 else "cost"
        values = fixed(row.compressed.value), fixed(row.dense.value)
        tiles.append(Tile(row.name, *values, f"× {measured(row.measured_ratio)}", tone))
    tasks = task_rows(report)
    if tasks and (len(tasks) == 1 or not tasks[-1].metric):
        tiles += _mean(tasks[-1])
    return [*tiles, *_speed(speed)]


def _active(before: int, after: int) -> Tile:
    """The parameters that a token passes."""
    change = _percent(after / before - 1) if after != before else "all kept"
    return Tile("active parameters", short(after), short(before), change, "gain" if after < before else "same")


def _mean(row: MeasureRow) -> list[Tile]:
    now, change = row.compressed, row.difference
    if now is None or change is None:
        return []
    scale, digits = row.scale, row.scale.decimals
    error = "" if now.error is None else f"± {fixed(now.error, digits)}"
    label = row.name if scale.share else f"{row.name} {row.metric}"
    before, moved = f"{measured(row.dense, digits)} {scale.unit}", measured(change, digits, "+")
    worse = not (change.value <= 0) if scale.less_is_better else not (change.value >= 0)
    tone: Tone = "same" if scale.less_is_better is None else "cost" if worse else "gain"
    points = f"{moved} points" if scale.share else moved
    return [Tile(label, fixed(now.value, digits), before.strip(), points, tone, f"{error} {scale.unit}".strip())]


def _speed(speed: Mapping[str, Any]) -> list[Tile]:
    tiles = []
    for what in ("prefill", "decode"):
        for row in [row for row in speed.get(what, ()) if "ratio" in row][:1]:
            ratio = row["ratio"]["median"]
            now, before = (_rate(row[which]["tokens_per_s"]) for which in ("compressed", "dense"))
            tone: Tone = "gain" if ratio >= 1 else "cost"
            tiles.append(Tile(f"{what}, batch {row['batch']}", now, before, f"× {fixed(ratio)}", tone, "tokens/s"))
    memory = speed.get("memory", {})
    if {"dense", "compressed"} <= memory.keys():
        dense, small = (memory[which]["parameter_bytes"] for which in ("dense", "compressed"))
        tiles.append(Tile("weights", size(small), size(dense), _percent(small / dense - 1), "gain"))
    return tiles


def _rate(value: float) -> str:
    return fixed(value, 0 if value >= 100 else 1)


def _percent(share: float) -> str:
    return f"{fixed(100 * share, 1, '+')} %"
