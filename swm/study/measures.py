"""Measures: the numbers by which the runs of a study are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from swm.measure.metrics import PERPLEXITY, SHARE, Metric
from swm.report.record import Measures, ModelScores, ModelSize
from swm.report.summary import MeasureRow, named_rows, task_rows

MEAN = "accuracy"
# What every study has, with what it is called in tables and figures.
LABELS: Mapping[str, str] = {
    "parameters": "parameters",
    "active": "active parameters",
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
    "active": Metric("active parameters", True, decimals=0),
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
    return LABELS.get(measure) or ", ".join(filter(None, [measure, scale.unit or scale.name.removeprefix(measure)]))


def metrics_of(scores: ModelScores) -> dict[str, dict[str, Any]]:
    """What `scale_of` reads: the metric of every task of one model."""
    scales = {row.name: row.scale for row in [*_rows(scores), *_named(scores)] if row.metric}
    # Rows of tasks are as they were before there were others.
    return {
        name: {key: value for key, value in asdict(scale).items() if key != "alone" or value}
        for name, scale in scales.items()
    }


def _rows(scores: ModelScores) -> list[MeasureRow]:
    return task_rows(Measures(tasks={"dense": scores.tasks})) if scores.tasks else []


def _named(scores: ModelScores) -> list[MeasureRow]:
    return named_rows(Measures(measures={"dense": scores.measures}))


def items_of(scores: ModelScores) -> dict[str, Any]:
    """What was measured of one model item by item: nats of each window, and a digit for each document of a task."""
    items: dict[str, Any] = {}
    if scores.perplexity is not None and scores.perplexity.window_nats is not None:
        items["perplexity"] = scores.perplexity.window_nats
    tasks = scores.tasks.tasks if scores.tasks else {}
    items |= {name: task.hits for name, task in tasks.items() if task.hits is not None}
    return items | {name: score.item_values for name, score in scores.measures.items() if score.item_values}


def protocols_of(scores: ModelScores) -> dict[str, dict[str, Any]]:
    """How one model was measured, by kind of measurement."""
    return scores.protocols()


def measures_of(
    size: ModelSize, original: ModelSize, scores: ModelScores, speed: Mapping[str, Any]
) -> dict[str, list[float | None]]:
    """Every measure of one model as `[value, standard error]`; shares in percent.

    Speed is that of the compressed model in dense ones, its error that of the median's 95 % interval.

    Args:
        size: The size of the model.
        original: The size of the original model.
        scores: What was measured of the model.
        speed: The measured speed of both models, as plain data; empty when there is none.

    Returns:
        The measures by name.
    """
    measures: dict[str, list[float | None]] = {
        "parameters": [size.parameters, None],
        "ratio": [100 * (1 - size.parameters / original.parameters), None],
        "layers": [size.layers, None],
    }
    if size.active_parameters is not None:
        measures["active"] = [size.active_parameters, None]
    if scores.perplexity is not None:
        measures["perplexity"] = [scores.perplexity.value, scores.perplexity.standard_error]
    for row in _rows(scores):
        if row.dense is not None:
            measures[row.name if row.metric else MEAN] = [row.dense.value, row.dense.error]
    for row in _named(scores):
        if row.dense is not None:
            measures[row.name] = [row.dense.value, row.dense.error]
    for kind in ("prefill", "decode"):
        ratio = next((row["ratio"] for row in speed.get(kind, ()) if "ratio" in row), None)
        if ratio is not None:
            low, high = ratio["interval"]
            measures[kind] = [ratio["median"], (high - low) / (2 * 1.96)]
    return measures
