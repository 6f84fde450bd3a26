"""The tables of the comparison with other libraries, from rows that are there."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
DENSE = {"key": "dense", "parameters": 1000, "perplexity": {"value": 20.0}}
ROW = {"peer": "optipfair", "call": "f()", "version": "0.4.2", "seconds": 3.25, "peak": 900, "steps": 0, "gone": [3, 4]}


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(importlib.import_module("results"), "RESULTS", tmp_path / "RESULTS.md")
    return importlib.import_module("peers")


def page(peers: Any, folder: Path, *rows: dict[str, Any]) -> str:
    """The page written from these rows and no others."""
    (folder / "peers.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    given = ["--text", "wiki.raw", "--calibration", "c4.gz", "--layers", "6", "--ratios", "0.2", "--known-only"]
    peers.main([*given, "--out", str(folder)])
    return (folder / "RESULTS.md").read_text()


def test_a_row_shows_what_went_what_it_costs_and_what_was_called(peers: Any, tmp_path: Path) -> None:
    row = {**ROW, "key": "optipfair, last layers | 6 layers", "parameters": 850, "remarks": ["two | words"]}
    said = page(peers, tmp_path, DENSE, {**row, "reloads": True, "perplexity": {"value": 50.0}})
    assert (
        "| optipfair, last layers | 0.4.2 | 15.0% | 50.0 | 2.50 | 3.2 | 900 | yes | `f()`; two / words; "
        "layers 3, 4 went |" in said
    )
    assert "| dense |  | 0.0% | 20.0 | 1.00 |" in said


def test_what_a_library_refuses_or_cannot_save_is_in_the_table(peers: Any, tmp_path: Path) -> None:
    refused = {"key": "torch-kirigami | 20%", "peer": "p", "call": "g()", "version": "1", "refused": "E: no", "peak": 9}
    unsaved = {**ROW, "key": "torch-pruning, MLP | 20%", "parameters": 800, "remarks": [], "gone": [], "reloads": False}
    unsaved |= {"why": "E: width", "perplexity": None}
    said = page(peers, tmp_path, DENSE, refused, unsaved)
    assert "| torch-kirigami | 1 |  |  |  |  |  |  | `g()`: E: no |" in said
    assert "| torch-pruning, MLP | 0.4.2 | 20.0% | does not run |  | 3.2 | 900 | no | `f()`; E: width |" in said


def test_rows_that_are_not_there_are_named(peers: Any, tmp_path: Path) -> None:
    said = page(peers, tmp_path, DENSE)
    assert "Not measured yet: optipfair, last layers;" in said
    assert "swm: wanda, least-squares, then LoRA" in said


def test_a_recipe_of_swm_gets_its_budget_and_its_training_the_text(peers: Any) -> None:
    rows = importlib.import_module("peer_rows")
    options = peers.argparse.Namespace(calibration="c4.gz", seconds=600, samples=96)
    spec = rows.SWM["swm: block-influence, least-squares of both, more text, then LoRA"]
    made = rows.recipe({**spec, "budget": {"layers": 6}}, options, "model")
    assert made["stages"][0]["depth"]["target"] == {"layers": 6}
    assert made["stages"][1]["recover"]["data"] == {"name": "file", "path": "c4.gz"}
    assert made["stages"][1]["recover"]["seconds"] == 600
    assert made["calibration"]["samples"] == 384


def test_every_recipe_of_swm_can_be_built(peers: Any) -> None:
    rows = importlib.import_module("peer_rows")
    building, plugins = importlib.import_module("swm.recipe.building"), peers.load_plugins()
    options = peers.argparse.Namespace(calibration="c4.gz", seconds=600, samples=96)
    for spec in rows.SWM.values():
        budget = {"layers": 6} if "layers" in spec["units"] else {"ratio": 0.2}
        building.build_recipe(rows.recipe({**spec, "budget": budget}, options, "model"), plugins)


def test_a_row_is_measured_again_where_that_is_asked(peers: Any, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    results = importlib.import_module("results")
    rows = results.Rows(file)
    for key, value in (("a", 1), ("b", 2)):
        rows.measure(key, lambda value=value: {"value": value})
    assert rows.measure("a", lambda: {"value": 3})["value"] == 1
    assert rows.measure("a", lambda: {"value": 3}, again=True)["value"] == 3
    assert [json.loads(line)["value"] for line in file.read_text().splitlines()] == [3, 2]
    assert results.Rows(file, known_only=True).measure("b", lambda: {"value": 4}, again=True)["value"] == 2


def test_a_row_keeps_the_machine_that_measured_it(peers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows.jsonl"
    results = importlib.import_module("results")
    for machine, keys in (("a fast one", "abc"), ("a slow one", "de")):
        monkeypatch.setattr(results, "machine", lambda machine=machine: machine)
        for key in keys:
            results.Rows(file).measure(key, lambda: {"value": 1})
    # A table that is written on another machine tells of those that measured its rows.
    monkeypatch.setattr(results, "machine", lambda: "a third one")
    rows = results.Rows(file, known_only=True)
    assert rows.machines() == (
        "Machine: a fast one; of `d`, `e`: a slow one. Seconds of two machines are no comparison."
    )
    assert rows.machines(["d", "never measured"]) == "Machine: a slow one."
    assert rows.machines(["never measured"]) == "Machine: a third one."
