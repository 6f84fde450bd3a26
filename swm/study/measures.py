"""Measures: the numbers by which the runs of a study are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swm.summary import task_rows

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
LESS_IS_BETTER = ("parameters", "layers", "perplexity", "seconds")
# What a Pareto front is about, as far as it was measured.
TRADED = ("parameters", "perplexity", MEAN, "prefill", "decode")


def less_is_better(measure: str) -> bool:
    """Whether a lower number is the better one."""
    return measure in LESS_IS_BETTER


def named(measure: str) -> str:
    """What people read."""
    return LABELS.get(measure, f"{measure}, %")


def items_of(report: Mapping[str, Any], which: str) -> dict[str, Any]:
    """What was measured of one model item by item: nats of each window, and a digit for each document of a task."""
    found: dict[str, Any] = {}
    perplexity = report.get("perplexity", {}).get(which, {})
    if "window_nats" in perplexity:
        found["perplexity"] = perplexity["window_nats"]
    tasks = report.get("tasks", {}).get(which, {}).get("tasks", {})
    return found | {name: task["hits"] for name, task in tasks.items() if "hits" in task}


def measures_of(report: Mapping[str, Any], which: str, speed: Mapping[str, Any]) -> dict[str, list[float | None]]:
    """Every measure of one model in a report as `[value, standard error]`; accuracies in percent.

    Speed is that of the compressed model in dense ones, its error that of the median's 95 % interval.
    """
    shape, original = report[which], report["model"]
    found: dict[str, list[float | None]] = {
        "parameters": [shape["parameters"], None],
        "ratio": [100 * (1 - shape["parameters"] / original["parameters"]), None],
        "layers": [shape["layers"], None],
    }
    perplexity = report.get("perplexity", {}).get(which)
    if perplexity:
        found["perplexity"] = [perplexity["value"], perplexity.get("standard_error")]
    rows = task_rows({"tasks": {which: report["tasks"][which]}}) if which in report.get("tasks", {}) else []
    for row in rows:
        measured = row.dense if which == "dense" else row.compressed
        if measured is not None:
            found[row.name if row.metric else MEAN] = [measured.value, measured.error]
    for kind in ("prefill", "decode"):
        ratio = next((row["ratio"] for row in speed.get(kind, ()) if "ratio" in row), None)
        if ratio is not None:
            low, high = ratio["interval"]
            found[kind] = [ratio["median"], (high - low) / (2 * 1.96)]
    return found
