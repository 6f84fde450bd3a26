"""A run that is killed while it replaces a folder leaves the old one or the new one, whole."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from swm.files import yaml_file as yamlfile
from swm.files.manifest import check_ours
from swm.files.scratch import clear_dead
from swm.testing import tiny_model
from swm.testing.tiny import tiny_tokenizer

pytestmark = pytest.mark.slow

KILLS = 3


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run that replaces `out`."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SWM_CACHE", str(tmp_path / "cache"))
    tiny_model("llama").save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "text.txt").write_text("some words that a model may read\n" * 40)
    recipe = {
        "model": str(tmp_path / "model"),
        "calibration": {"text": str(tmp_path / "text.txt"), "samples": 2, "seq_len": 16},
        "stages": [{"depth": {"pruner": "last", "target": {"layers": 2}}}],
        "output": str(tmp_path / "out"),
    }
    (tmp_path / "recipe.yaml").write_text(yamlfile.dump(recipe))
    return [sys.executable, "-m", "swm", "compress", str(tmp_path / "recipe.yaml"), "--overwrite", "-q"]


def test_a_run_killed_at_random_moments_leaves_a_whole_folder(command: list[str], tmp_path: Path) -> None:
    subprocess.run(command, check=True)
    output, moments = tmp_path / "out", random.Random(7)
    before = sorted(path.name for path in tmp_path.iterdir())
    for _ in range(KILLS):
        with subprocess.Popen(command, start_new_session=True) as child:
            while child.poll() is None and not list(tmp_path.glob(".swm-scratch-*/new/out/*")):
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 6))
            os.killpg(child.pid, signal.SIGKILL) if child.poll() is None else None
        if output.exists():
            check_ours(output)
        clear_dead(tmp_path)
        check_ours(output)
        assert json.loads((output / "report.json").read_text())["verification"]["generated_equal"]
    subprocess.run(command, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert AutoModelForCausalLM.from_pretrained(output).config.num_hidden_layers == 4
