from __future__ import annotations

from typing import Any

import pytest

from swm.report.record import Measures, Perplexity
from swm.report.summary import Measured, MeasureRow, perplexity_row, task_rows


def _result(**values: float) -> dict[str, Any]:
    tasks = {name: {"metric": "acc", "value": value, "standard_error": 0.03} for name, value in values.items()}
    return {"tasks": tasks, "average": {"value": 0.5, "standard_error": 0.02}, "protocol": {}}


def _rows(measures: dict[str, Any]) -> list[MeasureRow]:
    return task_rows(Measures.model_validate(measures))


def test_accuracies_are_percents_and_the_average_comes_last() -> None:
    rows = _rows({"tasks": {"dense": _result(a=0.5, b=0.25), "compressed": _result(a=0.4, b=0.25)}})
    assert [row.name for row in rows] == ["a", "b", "average of 2 tasks"]
    assert rows[0].dense == Measured(50.0, 3.0)
    assert rows[2].compressed == Measured(50.0, 2.0)


def test_one_task_has_no_average() -> None:
    assert [row.name for row in _rows({"tasks": {"dense": _result(a=0.5)}})] == ["a"]


def test_a_metric_that_is_no_accuracy_keeps_its_unit() -> None:
    result = {"tasks": {"w": {"metric": "word_perplexity", "value": 12.0}}, "protocol": {}}
    assert _rows({"tasks": {"dense": result}}) == [MeasureRow("w", "word_perplexity", Measured(12.0), None)]


def test_accuracies_and_perplexities_have_no_average_whatever_an_old_report_says() -> None:
    result = _result(a=0.5)
    result["tasks"]["w"] = {"metric": "word_perplexity", "value": 12.0}
    assert [row.name for row in _rows({"tasks": {"dense": result}})] == ["a", "w"]


def test_the_average_is_over_the_tasks_of_one_kind() -> None:
    result = _result(a=0.5, b=0.25)
    result["tasks"]["w"] = {"metric": "word_perplexity", "value": 12.0}
    mean = _rows({"tasks": {"dense": result}})[-1]
    assert (mean.name, mean.scale.unit) == ("average of the 2 tasks in %", "%")
    assert mean.dense == Measured(37.5, pytest.approx(3 / 2**0.5))


def test_the_error_of_a_difference_is_the_root_of_the_sum_of_squares() -> None:
    difference = MeasureRow("a", "acc", Measured(60.0, 3.0), Measured(55.0, 4.0)).difference
    assert difference == Measured(-5.0, 5.0)
    assert MeasureRow("a", "acc", Measured(60.0), Measured(55.0, 4.0)).difference == Measured(-5.0)


def test_what_was_measured_on_one_model_has_neither_difference_nor_ratio() -> None:
    row = perplexity_row(Measures(perplexity={"compressed": Perplexity(value=9.0, protocol={})}))
    assert row is not None
    assert (row.dense, row.compressed, row.difference, row.ratio) == (None, Measured(9.0), None, None)
    assert perplexity_row(Measures()) is None


def test_a_difference_is_taken_item_by_item_where_the_items_are_known() -> None:
    def task(hits: str) -> dict[str, Any]:
        return {"metric": "acc", "value": hits.count("1") / 4, "standard_error": 0.25, "items": 4, "hits": hits}

    dense, small = (
        {"tasks": {"a": task(a), "b": task(b)}, "protocol": {}} for a, b in (("1110", "1100"), ("1100", "1100"))
    )
    for record in (dense, small):
        record["average"] = {"value": 0.5, "standard_error": 0.2}
    first, second, mean = _rows({"tasks": {"dense": dense, "compressed": small}})
    # One of four items differs: a standard deviation of one half over the root of four, in percent.
    assert first.difference == Measured(-25.0, pytest.approx(25.0))
    assert second.difference == Measured(0.0, 0.0)
    assert mean.paired == pytest.approx(12.5)
