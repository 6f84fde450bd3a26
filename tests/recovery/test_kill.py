"""A training that is killed without a warning goes on where it was, and ends with the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from swm.checkpoint import saving as checkpoint
from swm.files import yaml_file as yamlfile
from swm.run.pipeline import CompressionPipeline
from swm.training.state import newest_state

STEPS = 40
PLUGIN = """
import pathlib, time, swm

@swm.hookimpl
def swm_training_step(stage_index, step, loss):
    with (pathlib.Path(__file__).parent / "steps.txt").open("a") as log:
        log.write(f"{step}\\n")
    # Time to be killed in.
    time.sleep(0.02)
"""


@pytest.fixture
def recipe(llama_folder: Path, quick: dict[str, Any], tmp_path: Path) -> Path:
    """A recipe with a training, whose steps are listed in `steps.txt` as they are done."""
    (tmp_path / "plugin.py").write_text(PLUGIN)
    training = {**quick, "data": quick["data"].spec(), "steps": STEPS, "batch": 3, "micro_batch": 2, "save_every": 1}
    data = {
        "model": str(llama_folder),
        "dtype": "float32",
        "calibration": {"samples": 2, "seq_len": 16},
        "plugins": ["plugin.py"],
        "stages": [
            {"depth": {"pruner": "sliding-window", "target": {"layers": 2}}},
            {"recover": {"name": "lora", **training, "dropout": 0.2, "held_out": 1, "evaluate_every": 7}},
        ],
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(yamlfile.dump(data))
    return file


def newest_step(cache: Path) -> int:
    """The number of the newest state of the one training in the cache, -1 while there is none."""
    states = [newest_state(folder) for folder in (cache / "recovery").glob("*/*")]
    return max((int(state.name.removeprefix("step-")) for state in states if state), default=-1)


def kill_in_training(command: list[str], cache: Path) -> None:
    """Start the command, and kill it with all that it started once two steps are on disk."""
    with subprocess.Popen(command, start_new_session=True) as child:
        while newest_step(cache) < 2:
            assert child.poll() is None
            time.sleep(0.005)
        os.killpg(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(
    recipe: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    steps = tmp_path / "steps.txt"
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    with monkeypatch.context() as patch:
        # The fresh process that reloads it is spared; the other run has one.
        patch.setattr(checkpoint, "verify", lambda *args, **kwargs: {"max_abs_difference": 0.0})
        CompressionPipeline.from_file(recipe, [f"output={whole}"]).run()
    assert steps.read_text().split() == [str(step) for step in range(1, STEPS + 1)]
    steps.unlink()

    command = [sys.executable, "-m", "swm", "compress", str(recipe), "-q", "--set", f"output={resumed}"]
    kill_in_training(command, cache)
    reached = newest_step(cache)
    assert 2 <= reached < STEPS
    assert not resumed.exists()
    steps.unlink(missing_ok=True)
    subprocess.run(command, check=True)
    assert steps.read_text().split() == [str(step) for step in range(reached + 1, STEPS + 1)]

    assert (resumed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    facts = [json.loads((folder / "report.json").read_text())["stages"][1]["facts"] for folder in (whole, resumed)]
    assert facts[0] == facts[1]
    assert [step for step, _ in facts[0]["losses"]] == list(range(1, STEPS + 1))
    assert [step for step, _ in facts[0]["held_out_losses"]] == [0, 7, 14, 21, 28, 35, STEPS]
    assert list((cache / "recovery").iterdir()) == []
