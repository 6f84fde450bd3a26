"""What lies in the working folder is run by none of the processes that swm starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from swm import compress
from swm.builtin.executors.local import Local
from swm.interfaces.executor import Job, Row
from swm.processes import children

pytestmark = pytest.mark.slow

TRAPS = ("torch", "json", "random", "typing", "pathlib", "socket", "tempfile", "transformers", "safetensors", "pluggy")
SMALL: dict[str, Any] = {
    "calibration": {"text": "python-docs", "samples": 2, "seq_len": 32},
    "stages": [{"depth": {"pruner": "last", "target": {"layers": 1}}}],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, full of files that are called as libraries are and that must not be run."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in TRAPS:
        line = f"import os; open(os.path.join({str(folder)!r}, 'ran-{name}'), 'w'); raise SystemExit('a trap ran')\n"
        (folder / f"{name}.py").write_text(line)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SWM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(children.SAFE_PATH, raising=False)
    return folder


def ran(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("ran-*"))


def look(job: Job) -> Row:
    """What a worker sees."""
    import random

    return {"path": sys.path, "random": random.__file__, "safe": os.environ.get(children.SAFE_PATH)}


@pytest.mark.parametrize("command", [[sys.executable, "-m", "swm"], [str(Path(sys.executable).with_name("swm"))]])
def test_the_command_and_the_process_that_checks_its_folder(folder: Path, stories: Path, command: list[str]) -> None:
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"model": str(stories), **SMALL, "output": "out"}))
    done = subprocess.run([*command, "compress", "recipe.yaml", "-q"], capture_output=True, text=True)
    assert (done.returncode, ran(folder)) == (0, []), done.stderr
    assert (folder / "out" / "report.json").is_file()


@pytest.mark.parametrize(
    "executor",
    [
        pytest.param({"name": "local", "threads": 1}, id="local"),
        pytest.param({"name": "ray"}, id="ray", marks=pytest.mark.ray),
    ],
)
def test_the_workers_of_a_study(folder: Path, stories: Path, executor: dict[str, Any]) -> None:
    if executor["name"] == "ray":
        pytest.importorskip("ray")
    study = {
        "recipe": {"model": str(stories), **SMALL, "evaluate": {"perplexity": {"text": "python-docs", "seq_len": 64}}},
        "executor": executor,
        "grid": {"seed": [0]},
        "baselines": False,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    command = [sys.executable, "-m", "swm", "study", "run", "study.yaml", "-o", "out", "-q"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, ran(folder)) == (0, []), done.stderr


def test_the_process_that_checks_a_folder_when_swm_is_a_library(folder: Path, stories: Path) -> None:
    result = compress(str(stories), output=str(folder / "out"), **SMALL)
    assert result.report["verification"]["generated_equal"]
    assert ran(folder) == []


def test_workers_when_swm_is_a_library(folder: Path) -> None:
    with Local(threads=1).open(look) as pool:
        seen = pool.submit({}).result(timeout=240)
    assert seen["safe"] == "1"
    assert not {"", str(folder)} & set(seen["path"])
    assert Path(seen["random"]).parent != folder
    assert ran(folder) == []


def test_the_variables_of_this_process_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(children.SAFE_PATH, raising=False)
    with children.safe_path():
        assert os.environ[children.SAFE_PATH] == "1"
    assert children.SAFE_PATH not in os.environ
    monkeypatch.setenv(children.SAFE_PATH, "yes")
    with children.safe_path():
        pass
    assert os.environ[children.SAFE_PATH] == "yes"
