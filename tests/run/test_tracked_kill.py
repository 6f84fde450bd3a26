"""A run that is stopped, killed and repeated, as a tracker holds it."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

RUNNING, FINISHED, KILLED = 1, 3, 5


def _started(folder: Path) -> subprocess.Popen[bytes]:
    variables = {**os.environ, "SWM_CACHE": str(folder / "cache"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("a") as log:
        command = [sys.executable, "-m", "swm", "compress", "recipe.yaml", "--quiet"]
        return subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log)


def _await_steps(process: subprocess.Popen[bytes], folder: Path, steps: int) -> None:
    """Wait until the training has reported so many losses."""
    end = time.monotonic() + 300
    while sum(len(file.read_text().splitlines()) for file in folder.glob("runs/*/*/metrics/1-recover/loss")) < steps:
        assert time.monotonic() < end, (folder / "log").read_text()
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.05)


def _state(folder: Path) -> int:
    [file] = folder.glob("runs/*/*/meta.yaml")
    status: int = yaml.safe_load(file.read_text())["status"]
    return status


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed")
def test_a_run_that_was_stopped_and_killed_is_one_run_of_mlflow(stories: Path, tmp_path: Path) -> None:
    recipe = {
        "model": str(stories),
        "calibration": {"text": "python-docs", "samples": 4, "seq_len": 32},
        "stages": [
            {"depth": {"pruner": "block-influence", "target": {"layers": 1}}},
            {
                "recover": {
                    "name": "full",
                    "data": "python-docs",
                    "steps": 400,
                    "batch": 4,
                    "cutoff": 64,
                    "save_every": 5,
                }
            },
        ],
        "trackers": [{"name": "mlflow", "uri": "runs"}],
        "output": "out",
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    process = _started(tmp_path)
    _await_steps(process, tmp_path, 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=100) == 143, (tmp_path / "log").read_text()
    assert _state(tmp_path) == KILLED

    process = _started(tmp_path)
    _await_steps(process, tmp_path, 8)
    process.kill()
    process.wait()
    assert _state(tmp_path) == RUNNING

    process = _started(tmp_path)
    assert process.wait(timeout=300) == 0, (tmp_path / "log").read_text()
    assert _state(tmp_path) == FINISHED
    [losses] = tmp_path.glob("runs/*/*/metrics/1-recover/loss")
    assert {int(line.split()[2]) for line in losses.read_text().splitlines()} == set(range(1, 401))
    assert (losses.parents[2] / "artifacts" / "report.html").is_file()
