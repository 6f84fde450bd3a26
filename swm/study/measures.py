"""Measures: the numbers by which the runs of a study are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from swm.measure.metrics import PERPLEXITY, SHARE, Metric
from swm.report.summary import Row, task_rows

MEAN = "accuracy"
# What every study has, with what it is called in tables and figures.
LABELS: Mapping[str, str] = {
    "parameters": "parameters",
    "ratio": "removed, %",
    "layers": "layers",
    "perplexity": "perplexity",
    MEAN: "mean accuracy, %",
    "prefill": "prefill, times as fast",
    "decode": "decode, times as fast",
    "seconds": "seconds",
}
SCALES: Mapping[str, Metric] = {
    "parameters": Metric("parameters", True, decimals=0),
    "ratio": SHARE,
    "layers": Metric("layers", True, decimals=0),
    "perplexity": PERPLEXITY,
    MEAN: SHARE,
    "prefill": Metric("prefill", decimals=2),
    "decode": Metric("decode", decimals=2),
    "seconds": Metric("seconds", True, decimals=0),
}
# What a Pareto front is about, as far as it was measured.
TRADED = ("parameters", "perplexity", MEAN, "prefill", "decode")


def scale_of(measure: str, rows: Iterable[Mapping[str, Any]]) -> Metric:
    """The unit and the direction of a measure; a task of rows that do not say has accuracies."""
    metrics = (row["metrics"][measure] for row in rows if measure in (row.get("metrics") or {}))
    return SCALES.get(measure) or next((Metric(**metric) for metric in metrics), SHARE)


def measure_label(measure: str, scale: Metric) -> str:
    """The name of a measure in tables and figures, with its unit."""
    return LABELS.get(measure) or ", ".join(filter(None, [measure, scale.unit or scale.name]))


def metrics_of(report: Mapping[str, Any], which: str) -> dict[str, dict[str, Any]]:
    """What `scale_of` reads: the metric of every task of one model."""
    return {row.name: asdict(row.scale) for row in _rows(report, which) if row.metric}


def _rows(report: Mapping[str, Any], which: str) -> list[Row]:
    return task_rows({"tasks": {which: report["tasks"][which]}}) if which in report.get("tasks", {}) else []


def items_of(report: Mapping[str, Any], which: str) -> dict[str, Any]:
    """What was measured of one model item by item: nats of each window, and a digit for each document of a task."""
    items: dict[str, Any] = {}
    perplexity = report.get("perplexity", {}).get(which, {})
    if "window_nats" in perplexity:
        items["perplexity"] = perplexity["window_nats"]
    tasks = report.get("tasks", {}).get(which, {}).get("tasks", {})
    return items | {name: task["hits"] for name, task in tasks.items() if "hits" in task}


def measures_of(report: Mapping[str, Any], which: str, speed: Mapping[str, Any]) -> dict[str, list[float | None]]:
    """Every measure of one model in a report as `[value, standard error]`; shares in percent.

    Speed is that of the compressed model in dense ones, its error that of the median's 95 % interval.
    """
    shape, original = report[which], report["model"]
    measures: dict[str, list[float | None]] = {
        "parameters": [shape["parameters"], None],
        "ratio": [100 * (1 - shape["parameters"] / original["parameters"]), None],
        "layers": [shape["layers"], None],
    }
    perplexity = report.get("perplexity", {}).get(which)
    if perplexity:
        measures["perplexity"] = [perplexity["value"], perplexity.get("standard_error")]
    for row in _rows(report, which):
        measured = row.dense if which == "dense" else row.compressed
        if measured is not None:
            measures[row.name if row.metric else MEAN] = [measured.value, measured.error]
    for kind in ("prefill", "decode"):
        ratio = next((row["ratio"] for row in speed.get(kind, ()) if "ratio" in row), None)
        if ratio is not None:
            low, high = ratio["interval"]
            measures[kind] = [ratio["median"], (high - low) / (2 * 1.96)]
    return measures
