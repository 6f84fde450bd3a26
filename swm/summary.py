"""Summary: what a report says of the dense and of the compressed model, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import stdev
from typing import Any

WHICH = ("dense", "compressed")


@dataclass(frozen=True)
class Measured:
    """A number and its standard error, if there is one."""

    value: float
    error: float | None = None

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Measured:
        return cls(result["value"], result.get("standard_error"))

    def times(self, factor: float) -> Measured:
        return Measured(self.value * factor, None if self.error is None else self.error * factor)


@dataclass(frozen=True)
class Row:
    """One measure of both models; a model that was not measured has none."""

    name: str
    metric: str
    dense: Measured | None
    compressed: Measured | None
    items: int | None = None
    paired: float | None = None
    """The standard error of the difference, item by item, where the items are known."""

    @property
    def difference(self) -> Measured | None:
        """Compressed less dense, its error as if the two were independent where nothing is known item by item.

        Both answer the same items, so the real error is smaller then.
        """
        if self.dense is None or self.compressed is None:
            return None
        errors = (self.dense.error, self.compressed.error)
        error = None if errors[0] is None or errors[1] is None else math.hypot(errors[0], errors[1])
        error = error if self.paired is None else self.paired
        return Measured(self.compressed.value - self.dense.value, error)

    @property
    def ratio(self) -> float | None:
        """Compressed to dense."""
        return None if self.dense is None or self.compressed is None else self.compressed.value / self.dense.value


@dataclass(frozen=True)
class TaskResults:
    """What the report holds of one model's tasks."""

    tasks: Mapping[str, Mapping[str, Any]]
    average: Mapping[str, Any] | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)


def task_results(report: Mapping[str, Any]) -> dict[str, TaskResults]:
    """The results of the tasks by model; empty when none were measured."""
    return {which: TaskResults(**result) for which, result in report.get("tasks", {}).items()}


def task_rows(report: Mapping[str, Any]) -> list[Row]:
    """One row a task, the average last where there are several; accuracies in percent."""
    results = task_results(report)
    names = dict.fromkeys(name for which in WHICH if which in results for name in results[which].tasks)
    rows = [_task_row(name, {which: found.tasks.get(name) for which, found in results.items()}) for name in names]
    means = {which: found.average for which, found in results.items()}
    mean = _task_row(f"average of {len(rows)} tasks", means, percent=all(_is_accuracy(row.metric) for row in rows))
    paired = [row.paired for row in rows if row.paired is not None]
    if paired and len(paired) == len(rows):
        mean = replace(mean, paired=math.hypot(*paired) / len(rows))
    return [*rows, mean] if len(rows) > 1 and (mean.dense or mean.compressed) else rows


def task_protocol(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the tasks were measured, the same for both models."""
    return next((found.protocol for found in task_results(report).values()), {})


def perplexity_row(report: Mapping[str, Any]) -> Row | None:
    """The perplexity of both models."""
    found = report.get("perplexity")
    if not found:
        return None
    dense, compressed = (Measured.of(found[which]) if which in found else None for which in WHICH)
    return Row("perplexity", "", dense, compressed)


def perplexity_protocol(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the perplexity was measured, the same for both models."""
    protocol: Mapping[str, Any] = next((found["protocol"] for found in report.get("perplexity", {}).values()), {})
    return protocol


def text_name(protocol: Mapping[str, Any]) -> str:
    """The name of the text that a perplexity was measured on: that of the data set, or of the source."""
    text = protocol["text"]
    return str(text.get("dataset", text["name"]))


def protocol_sentence(protocol: Mapping[str, Any]) -> str:
    """The protocol of a perplexity in words, without the name of its text."""
    return (
        f"{protocol['scored_tokens']} tokens scored in non-overlapping windows of {protocol['seq_len']}, "
        f"BOS: {protocol['bos']}"
    )


def tasks_sentence(protocol: Mapping[str, Any]) -> str:
    """The protocol of the tasks in words."""
    limit = protocol.get("limit")
    parts = [
        str(protocol.get("harness", "")),
        "" if protocol.get("num_fewshot") is None else f"{protocol['num_fewshot']}-shot",
        "all items" if limit is None else f"the first {limit} items of each task",
    ]
    return ", ".join(part for part in parts if part)


def _task_row(name: str, found: Mapping[str, Mapping[str, Any] | None], percent: bool | None = None) -> Row:
    results = [found.get(which) for which in WHICH]
    any_result: Mapping[str, Any] = next((result for result in results if result), {})
    metric = any_result.get("metric", "")
    factor = 100 if (_is_accuracy(metric) if percent is None else percent) else 1
    dense, compressed = (Measured.of(result).times(factor) if result else None for result in results)
    hits = [result.get("hits") if result else None for result in results]
    paired = None if hits[0] is None or hits[1] is None else _paired_error(hits[0], hits[1])
    error = None if paired is None else paired * factor
    return Row(name, metric, dense, compressed, any_result.get("items"), error)


def _paired_error(one: str, other: str) -> float | None:
    """The standard error of the mean difference of two rows of hits, a digit an item; None for rows of two lengths."""
    if len(one) != len(other) or len(one) < 2:
        return None
    return stdev(int(a) - int(b) for a, b in zip(one, other, strict=True)) / math.sqrt(len(one))


def _is_accuracy(metric: str) -> bool:
    return metric.startswith("acc")
