"""How a score is shown and compared: its unit, its direction, its decimals, and with which others it is averaged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from swm.interfaces.metric import Metric as Metric

SHARE = Metric("", share=True, decimals=1)
# Those of lm-eval that are no shares. What is not listed is shown as it was measured.
KNOWN = {
    metric.name: metric
    for metric in (
        *(Metric(name, True, decimals=2, grows=True) for name in ("perplexity", "word_perplexity", "byte_perplexity")),
        Metric("bits_per_byte", True, decimals=4),
        Metric("brier_score", True),
        Metric("ter", True, decimals=1),
        Metric("bleu", decimals=1),
        Metric("chrf", decimals=1),
        Metric("chrf++", decimals=1),
        Metric("mcc"),
    )
}
SHARES = ("acc", "exact_match", "em", "f1")
PERPLEXITY = KNOWN["perplexity"]


def metric_of(results: Iterable[Mapping[str, Any]]) -> Metric:
    """The metric of results that models have for one task: `metric`, `value` and, where known, `higher_is_better`.

    A score above 1 is no share, whatever it is called: some tasks give `f1` in percent.
    """
    scores = list(results)
    name = next((str(score["metric"]) for score in scores if score.get("metric")), "")
    higher = next((score["higher_is_better"] for score in scores if score.get("higher_is_better") is not None), None)
    values = [score.get("value") for score in scores]
    above = any(isinstance(value, int | float) and 1 < value < math.inf for value in values)
    known = KNOWN.get(name)
    if name in SHARES or name.startswith("acc_") or name.endswith("_acc"):
        known = Metric(name, share=not above, decimals=1)
    if known is None:
        return Metric(name, None if higher is None else not higher)
    return known if higher is None else Metric(name, not higher, known.share, known.decimals, known.grows)


def average(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The unweighted mean of the tasks whose scores are of one kind, and its standard error; None without any.

    The error is `sqrt(sum of squares) / n`, as if no two tasks had an item in common.
    """
    alike = [task for task in tasks.values() if metric_of([task]).averaged]
    if not alike:
        return None
    mean: dict[str, Any] = {"value": sum(task["value"] for task in alike) / len(alike)}
    if all(task.get("standard_error") is not None for task in alike):
        mean["standard_error"] = math.sqrt(sum(task["standard_error"] ** 2 for task in alike)) / len(alike)
    return mean


def format_number(value: float, digits: int, sign: str = "") -> str:
    """A number with so many digits after the point, words for those that have none: `1,234.5`, `∞`, `not a number`."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else f"{'-' if value < 0 else ''}∞"
    text = f"{value:{sign},.{digits}f}"
    # Minus nothing is nothing.
    return text if any(c in "123456789" for c in text) else text.lstrip("-+")
