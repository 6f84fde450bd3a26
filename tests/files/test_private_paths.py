from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swm.files.private_paths import absolute_paths, remembered_paths, with_remembered_paths, without_private_paths


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "text.txt").write_text("text")
    return tmp_path


@pytest.fixture
def recipe(home: Path) -> dict[str, Any]:
    return {
        "model": str(home / "model"),
        "calibration": {"text": {"name": "file", "path": str(home / "text.txt")}},
        "evaluate": {"prompts": [str(home)], "tasks": ["/no/path/here"]},
        "plugins": ["./relative.py"],
        "output": "/not/there/yet",
    }


def test_absolute_paths_become_names_and_everything_else_stays(home: Path, recipe: dict[str, Any]) -> None:
    known = absolute_paths(recipe)
    assert list(known) == ["model", "calibration.text.path", "output"]
    assert without_private_paths(recipe, known.values()) == {
        "model": "model",
        "calibration": {"text": {"name": "file", "path": "text.txt"}},
        "evaluate": {"prompts": [str(home)], "tasks": ["/no/path/here"]},
        "plugins": ["./relative.py"],
        "output": "yet",
    }


def test_a_known_path_is_left_out_of_sentences(home: Path) -> None:
    note = f"text {home}/text.txt ended early"
    assert without_private_paths({"notes": [note]}, [f"{home}/text.txt"]) == {"notes": ["text text.txt ended early"]}


def test_a_saved_recipe_finds_what_still_exists(home: Path, recipe: dict[str, Any]) -> None:
    known = absolute_paths(recipe)
    (home / "timing.json").write_text(json.dumps({"inputs": known}))
    found = with_remembered_paths(without_private_paths(recipe, known.values()), home / "recipe.yaml")
    assert found == {**recipe, "output": "yet"}


def test_a_value_that_was_changed_is_not_replaced(home: Path) -> None:
    (home / "timing.json").write_text(json.dumps({"inputs": {"model": str(home / "model")}}))
    assert with_remembered_paths({"model": "another"}, home / "recipe.yaml") == {"model": "another"}


@pytest.mark.parametrize("inputs", [3, {"model": 3}, {"model": "\x00"}, {"model": "~nobody-of-this-name/x"}])
def test_a_damaged_record_is_no_record(tmp_path: Path, inputs: object) -> None:
    for text in (json.dumps({"inputs": inputs}), json.dumps([inputs]), ""):
        (tmp_path / "timing.json").write_text(text)
        assert remembered_paths(tmp_path) == {}
