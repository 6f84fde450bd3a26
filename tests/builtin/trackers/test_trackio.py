from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from swm.builtin.trackers import swm_register
from swm.builtin.trackers.trackio import Trackio
from swm.errors import RecipeError
from swm.plugins.loading import Plugins
from swm.plugins.registry import Registry

installed = pytest.mark.skipif(importlib.util.find_spec("trackio") is None, reason="trackio is not installed")

RUN = """
import json
from swm.builtin.trackers.trackio import Trackio
tracker = Trackio(project="tests", run="first")
tracker.check()
run = tracker.start({"model": "tiny", "stages.0.depth.target.ratio": 0.4})
run.log({"dense/perplexity": 9.0})
run.log({"0-recover/loss": 2.5}, step=5)
ENDING
print(json.dumps("nothing else on stdout"))
"""


def _tables(folder: Path) -> sqlite3.Connection:
    [file] = folder.glob("*.db")
    return sqlite3.connect(file)


def _follow(folder: Path, ending: str) -> str:
    environment = {**os.environ, "TRACKIO_DIR": str(folder), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", RUN.replace("ENDING", ending)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


@installed
def test_a_run_lies_in_the_folder_with_its_parameters_metrics_and_report(tmp_path: Path) -> None:
    report = {"seed": 3, "answers": "größer"}
    assert json.loads(_follow(tmp_path, f"run.finish({report!r})")) == "nothing else on stdout"
    tables = _tables(tmp_path)
    rows = tables.execute("select run_name, step, metrics from metrics order by step").fetchall()
    assert [(name, step, json.loads(values)) for name, step, values in rows] == [
        ("first", 0, {"dense/perplexity": 9.0}),
        ("first", 5, {"0-recover/loss": 2.5}),
    ]
    [(text,)] = tables.execute("select config from configs").fetchall()
    config = json.loads(text)
    assert config["model"] == "tiny"
    assert config["stages.0.depth.target.ratio"] == 0.4
    tables.close()
    stored = [file.read_bytes() for file in (tmp_path / "artifacts").rglob("*") if file.is_file()]
    assert any(content.startswith(b"{") and json.loads(content) == report for content in stored)


@installed
def test_a_run_that_failed_says_why(tmp_path: Path) -> None:
    _follow(tmp_path, "run.fail('ModelError: no')")
    tables = _tables(tmp_path)
    assert tables.execute("select title, text from alerts").fetchall() == [
        ("the run ended with an error", "ModelError: no")
    ]
    tables.close()


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"needs the package trackio: pip install 'swm-pruning\[trackio\]'"):
        Trackio().check()


@installed
def test_a_space_needs_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(RecipeError, match="hf auth login"):
        Trackio(space="me/runs").check()
    Trackio().check()


def test_it_is_built_from_its_name_or_a_mapping() -> None:
    registry = Registry()
    swm_register(lambda thing: registry.register(thing, "swm"))
    assert registry.build("tracker", "trackio") == Trackio(project="swm")
    assert registry.build("tracker", {"name": "trackio", "project": "p"}) == Trackio(project="p")
    with pytest.raises(RecipeError, match="project"):
        registry.build("tracker", {"name": "trackio", "project": ""})


def test_importing_it_imports_no_trackio(plugins: Plugins) -> None:
    code = "import swm.builtin.trackers, sys; sys.exit('trackio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
