"""A row counts only as long as what its run read is what the run would read now."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swm.study import worker
from swm.study.inputs import CODE, input_hashes, is_current
from swm.study.journal import Journal
from swm.study.studies import run_study

PRUNER = """
from dataclasses import dataclass
from typing import ClassVar
from swm import DepthPruner, DepthProposal, hookimpl
from swm.model.windows import windows_without


@dataclass(frozen=True)
class Chosen(DepthPruner):
    name: ClassVar[str] = "chosen"

    def propose(self, context):
        return DepthProposal(windows_without([LAYER], context.layers))


@hookimpl
def swm_register(register):
    register(Chosen)
"""


@pytest.fixture
def carried_out(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs that were really carried out, in their order."""
    names: list[str] = []
    real = worker.carry_out

    def counted(job: Any) -> Any:
        names.append(job["name"])
        return real(job)

    monkeypatch.setattr("swm.study.running.carry_out", counted)
    return names


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Installs a plugin with an entry point, or another state of it, which removes this layer."""
    site = tmp_path / "site"
    info = site / "chosen_layer-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chosen-layer\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[swm]\nchosen = chosen_layer\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def edited(layer: int) -> None:
        (site / "chosen_layer.py").write_text(PRUNER.replace("LAYER", str(layer)))
        sys.modules.pop("chosen_layer", None)

    yield edited
    sys.modules.pop("chosen_layer", None)


def without_code(file: Path) -> None:
    """Make the rows of a journal what earlier versions wrote."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        row["inputs"] = {name: value for name, value in row["inputs"].items() if not name.startswith(CODE)}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_new_text_in_the_grid_does_not_measure_the_original_again(
    write: Any, tmp_path: Path, carried_out: list[str]
) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.txt").write_text(f"Once upon a time there were {name} little dogs. " * 100)
    one, two, three = ({name: str(tmp_path / f"{name}.txt")} for name in ("one", "two", "three"))
    run_study(write(grid={"calibration.text": one | two}, baselines=False), tmp_path / "out")
    assert carried_out == ["dense", "one", "two"]
    run_study(write(grid={"calibration.text": one | two | three}, baselines=False), tmp_path / "out")
    assert carried_out[3:] == ["three"]
    (tmp_path / "three.txt").write_text("The sea was blue, and nobody was there to see it. " * 100)
    _, results = run_study(write(grid={"calibration.text": one | two | three}, baselines=False), tmp_path / "out")
    assert carried_out[4:] == ["three"]
    assert [row["name"] for row in results.rows] == ["dense", "one", "two", "three"]
    [dense, *_] = Journal(tmp_path / "out").rows()
    assert not [name for name in dense["inputs"] if name.endswith(".txt")]


def test_a_table_holds_no_runs_of_an_installed_plugin_before_it_was_edited(
    write: Any, tmp_path: Path, carried_out: list[str], installed: Callable[[int], None]
) -> None:
    file = write(grid={"stages.0.depth.pruner": ["chosen", "last"]}, baselines=False)
    removed = []
    for layer in (1, 2):
        installed(layer)
        _, results = run_study(file, tmp_path / "out")
        assert sorted(row["name"] for row in results.rows) == ["chosen", "dense", "last"]
        [row] = [row for row in results.rows if row["name"] == "chosen"]
        assert [name for name in row["inputs"] if name.startswith(CODE)] == [f"{CODE}chosen_layer"]
        removed.append(row["id"])
    assert carried_out == ["dense", "chosen", "last", "chosen"]
    assert len(set(removed)) == 2


def test_rows_of_earlier_versions_count_when_nothing_contradicts_them(
    write: Any, tmp_path: Path, carried_out: list[str], installed: Callable[[int], None]
) -> None:
    installed(1)
    file = write(grid={"stages.0.depth.pruner": ["chosen", "last"]}, baselines=False)
    run_study(file, tmp_path / "out")
    without_code(tmp_path / "out" / "runs.jsonl")
    _, results = run_study(file, tmp_path / "out")
    assert carried_out == ["dense", "chosen", "last"]
    assert len(results.rows) == 3


def test_a_row_is_current_while_each_of_its_inputs_is_as_it_was(tmp_path: Path) -> None:
    text, other, study = tmp_path / "text.txt", tmp_path / "other.txt", tmp_path / "study"
    text.write_text("one")
    other.write_text("one")
    recipe = {"text": str(text)}
    now = input_hashes(recipe, study, code={"plugin": "a"})
    assert is_current({}, now, study)
    assert is_current({"inputs": now}, now, study)
    assert is_current({"inputs": input_hashes(recipe, study)}, now, study)
    assert not is_current({"inputs": input_hashes(recipe, study, code={"plugin": "b"})}, now, study)
    assert not is_current({"inputs": {}}, now, study)
    # The row of an original model named all files of some recipe once.
    both = input_hashes({"texts": [str(text), str(other)]}, study)
    assert is_current({"inputs": both}, now, study)
    other.write_text("two")
    assert not is_current({"inputs": both}, now, study)
    other.unlink()
    assert not is_current({"inputs": both}, now, study)
