"""Several processes train together what one would have trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

RECIPE: dict[str, Any] = {
    "calibration": {"text": "python-docs", "samples": 4, "seq_len": 32},
    "stages": [
        {"depth": {"pruner": "last", "target": {"layers": 1}}},
        {
            "recover": {
                "name": "lora",
                "data": "python-docs",
                "cutoff": 32,
                "batch": 8,
                "micro_batch": 2,
                "steps": 4,
                "dropout": 0.0,
                "held_out": 4,
                "evaluate_every": 2,
                "save_every": 2,
            }
        },
    ],
    "evaluate": {"perplexity": {"text": "python-docs", "seq_len": 64, "max_tokens": 256}},
}


def run(stories: Path, folder: Path, name: str, *launcher: str, **recover: Any) -> subprocess.CompletedProcess[str]:
    recipe = json.loads(json.dumps({"model": str(stories), **RECIPE, "output": name}))
    recipe["stages"][1]["recover"].update(recover)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    command = [sys.executable, *launcher, "-m", "swm", "compress", f"{name}.yaml"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


LAUNCH = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1")
LAUNCH = (*LAUNCH, "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0")


@pytest.mark.slow
def test_two_processes_give_what_one_gives(stories: Path, tmp_path: Path) -> None:
    alone = run(stories, tmp_path, "alone")
    assert alone.returncode == 0, alone.stderr
    both = run(stories, tmp_path, "both", *LAUNCH)
    assert both.returncode == 0, both.stderr
    assert both.stdout.count("saved: both") == 1
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("alone", "both"))
    worst = max(float((one[key] - two[key]).abs().max()) for key in one)
    assert worst < 1e-5
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("alone", "both")]
    losses = [[value for _, value in report["stages"][1]["facts"]["losses"]] for report in reports]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert reports[1]["verification"]["max_abs_difference"] == 0


@pytest.mark.slow
def test_two_processes_stop_together_when_the_loss_is_no_number(stories: Path, tmp_path: Path) -> None:
    both = run(stories, tmp_path, "both", *LAUNCH, learning_rate=1e30, max_norm=1e30, warm_up=0)
    assert both.returncode != 0
    assert "so the training was stopped" in both.stderr
    assert not (tmp_path / "both").exists()
