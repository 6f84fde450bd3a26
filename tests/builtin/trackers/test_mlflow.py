from __future__ import annotations

import importlib.util
import json
import sqlite3
from pathlib import Path

import pytest
import yaml
from tracker_runs import FINISHED, follow

from swm.builtin.trackers.mlflow import Mlflow
from swm.errors import RecipeError

installed = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed")

# MLflow would tell its makers of its use.
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true"}
FINISHED_STATE, FAILED_STATE, KILLED_STATE = 3, 4, 5


def _only_run(store: Path) -> Path:
    [file] = store.glob("*/*/meta.yaml")
    return file.parent


def _state(run: Path) -> int:
    status: int = yaml.safe_load((run / "meta.yaml").read_text())["status"]
    return status


def _points(run: Path, metric: str) -> list[tuple[float, int]]:
    """Value and step of each point."""
    lines = (run / "metrics" / metric).read_text().splitlines()
    return [(float(line.split()[1]), int(line.split()[2])) for line in lines]


@installed
@pytest.mark.slow
def test_a_killed_run_goes_on_in_the_same_run_of_a_file_store(tmp_path: Path) -> None:
    spec = {"name": "mlflow", "uri": str(tmp_path / "runs"), "experiment": "tests", "run": "first"}
    number, link = follow(spec, tmp_path, "run.stop('Stopped: SIGTERM')", **QUIET)
    run = _only_run(tmp_path / "runs")
    assert run.name == number
    assert link == f"run 'first' ({number}) of experiment 'tests'"
    assert _state(run) == KILLED_STATE
    assert (run / "tags" / "swm.error").read_text() == "Stopped: SIGTERM"
    assert (run / "params" / "stages.0.depth.target.ratio").read_text() == "0.4"

    assert follow(spec, tmp_path, FINISHED, number, **QUIET)[0] == number
    assert _only_run(tmp_path / "runs") == run
    assert _state(run) == FINISHED_STATE
    assert not (run / "tags" / "swm.error").exists()
    assert _points(run, "dense/perplexity") == [(9.0, 0)]
    assert _points(run, "dense/perplexity.standard_error") == [(0.5, 0)]
    assert _points(run, "1-recover/loss") == [(2.5, 5), (1.5, 10)]
    assert (run / "artifacts" / "report.html").read_text() == "<h1>report</h1>"
    assert json.loads((run / "artifacts" / "report.json").read_text()) == {"seed": 3, "answers": "größer"}


@installed
@pytest.mark.slow
def test_without_an_address_it_writes_where_mlflow_does(tmp_path: Path) -> None:
    number, _ = follow({"name": "mlflow"}, tmp_path, "run.fail('ModelError: no')", **QUIET)
    tables = sqlite3.connect(tmp_path / "mlflow.db")
    assert tables.execute("select run_uuid, status from runs").fetchall() == [(number, "FAILED")]
    assert tables.execute("select value from tags where key = 'swm.error'").fetchall() == [("ModelError: no",)]
    assert tables.execute("select value, step from metrics where key = '2-recover/loss'").fetchall() == [(3.5, 1)]
    tables.close()


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"'mlflow' needs the package mlflow: pip install 'swm-pruning\[mlflow\]'"):
        Mlflow().check()
