from __future__ import annotations

import math
from typing import Any

import pytest

from swm.measure.metrics import average, format_number, metric_of


@pytest.mark.parametrize(
    ("result", "unit", "less_is_better"),
    [
        ({"metric": "acc"}, "%", False),
        ({"metric": "acc_norm"}, "%", False),
        ({"metric": "exact_match"}, "%", False),
        ({"metric": "f1", "value": 0.5}, "%", False),
        ({"metric": "f1", "value": 67.2}, "", False),
        ({"metric": "word_perplexity"}, "", True),
        ({"metric": "bits_per_byte"}, "", True),
        ({"metric": "bleu"}, "", False),
        ({"metric": "of-their-own"}, "", None),
        ({"metric": "of-their-own", "higher_is_better": False}, "", True),
        ({"metric": "acc", "higher_is_better": False}, "%", True),
    ],
)
def test_a_metric_has_its_unit_and_its_direction(
    result: dict[str, Any], unit: str, less_is_better: bool | None
) -> None:
    metric = metric_of([result])
    assert (metric.unit, metric.less_is_better) == (unit, less_is_better)


def test_what_one_model_tells_counts_for_both() -> None:
    assert metric_of([{"metric": "f1", "value": 0.9}, {"metric": "f1", "value": 67.2}]).unit == ""


def test_only_shares_of_which_more_is_better_are_averaged() -> None:
    tasks = {
        "a": {"metric": "acc", "value": 0.5, "standard_error": 0.03},
        "b": {"metric": "exact_match", "value": 0.25, "standard_error": 0.04},
        "c": {"metric": "word_perplexity", "value": 21.5},
        "d": {"metric": "acc", "value": 0.9, "higher_is_better": False},
    }
    assert average(tasks) == {"value": 0.375, "standard_error": pytest.approx(0.025)}
    assert average({"c": tasks["c"]}) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.56, "1,234.6"), (-0.01, "0.0"), (math.inf, "∞"), (-math.inf, "-∞"), (math.nan, "not a number")],
)
def test_every_number_can_be_shown(value: float, text: str) -> None:
    assert format_number(value, 1) == text
