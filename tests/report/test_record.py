"""Reports as typed records: of this version, of earlier ones, and of models that were not measured."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from sample_report import sample_report

from swm.report.record import ComparedRun, Measures, RunReport


def test_a_report_is_read_with_all_that_people_look_at() -> None:
    report = RunReport.model_validate(sample_report())
    assert report.removed_share == pytest.approx(0.3, abs=1e-4)
    dense = report.of("dense")
    assert dense.perplexity is not None
    assert dense.perplexity.value == 14.12
    assert dense.tasks is not None
    assert dense.tasks.tasks["boolq"].metric == "acc"
    assert [stage.stage for stage in report.stages] == ["depth", "recover"]
    assert report.given_answers()[0] == {
        "prompt": "What is the capital of France?",
        "dense": "The capital of France is Paris.",
        "compressed": "Paris is the capital.",
    }


def test_answers_of_one_model_alone_are_given() -> None:
    data = sample_report()
    del data["answers"]["dense"]
    assert RunReport.model_validate(data).given_answers()[0].keys() == {"prompt", "compressed"}
    del data["answers"]
    assert RunReport.model_validate(data).given_answers() == []


@pytest.mark.parametrize("more", [{}, {"perplexity": None, "tasks": None}, {"of_another_version": 1}])
def test_what_was_not_measured_is_empty(more: dict[str, Any]) -> None:
    run = ComparedRun.model_validate({"compressed": {"parameters": 7}, **more})
    assert (run.perplexity, run.tasks) == ({}, {})
    assert (run.of("dense").perplexity, run.of("dense").tasks) == (None, None)


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"perplexity\.dense\.value"):
        Measures.model_validate({"perplexity": {"dense": {"value": "14", "protocol": {}}}})
