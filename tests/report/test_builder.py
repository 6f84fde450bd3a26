"""A report is built the same way by runs and by replays, and read back as a record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sample_report import sample_plan

from swm.builtin.families import BUILTIN_FAMILIES
from swm.model.families import find_family
from swm.model.shape import ModelShape, shape_now
from swm.model.view import ModelView
from swm.report.builder import ReportBuilder


@pytest.fixture
def view(tiny: Callable[[str], Any]) -> ModelView:
    model = tiny("llama")
    return ModelView(model, find_family(model.config, BUILTIN_FAMILIES))


@pytest.fixture
def report() -> ReportBuilder:
    return ReportBuilder.begin({"source": "/models/a", "parameters": 10, "layers": 2}, 3, {"samples": 4})


def test_keys_stand_in_the_order_in_which_they_were_added(report: ReportBuilder, view: ModelView) -> None:
    report.add_notes([])
    report.add_measurement("answers", "dense", ["yes"], {"prompts": ["no?"]})
    report.add_measurement("answers", "compressed", ["no"], {"prompts": ["no?"]})
    report.add_stages(sample_plan().stages)
    report.add_compressed(view, ModelShape(2 * shape_now(view).parameters, ()), target={"params": 1, "ratio": 0.1})
    assert list(report.data) == [
        *("swm", "model", "seed", "calibration", "environment", "notes"),
        *("answers", "stages", "compressed", "target", "achieved"),
    ]
    assert report.data["answers"] == {"prompts": ["no?"], "dense": ["yes"], "compressed": ["no"]}
    assert [stage["steps"] for stage in report.data["stages"]] == [2, 1, 2]
    assert report.data["achieved"]["ratio"] == 0.5


def test_a_report_without_a_budget_has_no_target(report: ReportBuilder, view: ModelView) -> None:
    report.add_stages(sample_plan().stages, count_steps=False)
    report.add_compressed(view, shape_now(view))
    assert "target" not in report.data
    assert "steps" not in report.data["stages"][0]


def test_what_is_noted_later_is_in_the_report(report: ReportBuilder) -> None:
    notes = ["first"]
    report.add_notes(notes)
    report.add_verification({"generated_equal": True, "left_out": ["a file"]})
    notes.append("last")
    assert report.data["notes"] == ["first", "a file", "last"]
    assert report.data["verification"] == {"generated_equal": True}


def test_the_file_names_no_folder_and_is_what_the_record_says(
    report: ReportBuilder, view: ModelView, tmp_path: Path
) -> None:
    report.add_notes(["read from /models/a"])
    report.add_compressed(view, shape_now(view))
    record = report.write(tmp_path, ["/models/a"])
    assert (record.model.source, record.notes) == ("a", ["read from a"])
    written = json.loads((tmp_path / "report.json").read_text())
    assert list(written) == list(report.data)
    assert written["model"]["source"] == "a"
    assert report.data["model"]["source"] == "/models/a"
