"""`swm auto` from the command line: a dry run shows the recipe, a run leaves the model with it, in its minutes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml
from command_runs import run

from swm.testing import tiny_model, tiny_tokenizer

TEXT = "\n\n".join(["once upon a time there was a model of many layers, and it was read by few. " * 40] * 12)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a model and a text."""
    tiny_model("llama").save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def test_a_dry_run_shows_the_recipe_and_writes_nothing(folder: Path) -> None:
    words = ["auto", "model", "--layers", "1", "--minutes", "5", "--calibration", "text.txt", "--dry-run"]
    before = sorted(folder.iterdir())
    shown = run(folder, *words)
    assert not shown.code, shown.err
    assert yaml.safe_load(shown.out)["model"].endswith("model")
    assert "recipe: " in shown.err
    as_json = json.loads(run(folder, *words, "--json").out)
    assert as_json["recipe"]["stages"]
    assert as_json["seconds"] <= 300
    assert sorted(folder.iterdir()) == before


@pytest.mark.slow
def test_a_run_keeps_to_its_minutes_and_leaves_its_recipe_and_model(folder: Path) -> None:
    words = ["auto", "model", "--layers", "2", "--minutes", "0.5", "--calibration", "text.txt", "-o", "out", "--quiet"]
    started = time.perf_counter()
    done = run(folder, *words)
    assert not done.code, done.err
    # Twice the time, for a busy machine.
    assert time.perf_counter() - started < 60
    report = json.loads((folder / "out" / "report.json").read_text())
    assert report["compressed"]["layers"] == 4
    assert report["verification"]["generated_equal"]
    assert (folder / "out" / "recipe.yaml").exists()
    again = run(folder, *words)
    assert again.code == 2
    assert "output: " in again.err


@pytest.mark.parametrize(
    ("given", "wrong"),
    [(["--layers", "1", "--ratio", "0.2"], "found ratio and layers"), (["--layers", "1", "--minutes", "0"], "minutes")],
)
def test_what_is_wrong_ends_with_code_2_and_no_traceback(folder: Path, given: list[str], wrong: str) -> None:
    done = run(folder, "auto", "model", *given, "--calibration", "text.txt")
    assert done.code == 2
    assert wrong in done.err
    assert "Traceback" not in done.err
