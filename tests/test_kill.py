"""A run that is killed leaves the old folder or the new one, whole, and nothing of what it kept in files meanwhile."""

from __future__ import annotations

import json
import os
import random
import re
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


@pytest.fixture
def streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run that converts weights, and may keep hardly any of them in memory."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SWM_CACHE", str(tmp_path / "cache"))
    model = tiny_model("llama", hidden_size=512, intermediate_size=4096)
    model.bfloat16().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "text.txt").write_text("some words that a model may read\n" * 40)
    recipe = {
        "model": str(tmp_path / "model"),
        "dtype": "float32",
        "calibration": {"text": str(tmp_path / "text.txt"), "samples": 2, "seq_len": 16},
        "stages": [{"width": {"pruner": "wanda", "target": {"ratio": 0.2}}}],
        "output": str(tmp_path / "out"),
    }
    (tmp_path / "recipe.yaml").write_text(yamlfile.dump(recipe))
    command = [sys.executable, "-m", "swm", "compress", str(tmp_path / "recipe.yaml"), "--overwrite", "-q"]
    refused = subprocess.run([*command, "--set", "memory=1MiB"], capture_output=True, text=True)
    least = re.search(r"this run needs ([\d.]+) MiB", refused.stderr)
    assert least is not None
    # A process takes a little more or less each time: far more than that, and far less than the weights' 140 MiB.
    return [*command, "--set", f"memory={float(least[1]) + 32}MiB"]


def maps_a_file(pid: int, folder: Path) -> bool:
    """Whether a process maps a file of the folder that has no name any more."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return False
    return any(str(folder) in line and line.endswith("(deleted)") for line in lines)


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="files have names here")
def test_a_run_with_little_memory_killed_at_random_moments_leaves_no_large_file(
    streamed: list[str], tmp_path: Path
) -> None:
    subprocess.run(streamed, check=True)
    output, cache, moments = tmp_path / "out", tmp_path / "cache", random.Random(3)
    whole = {file.name: file.read_bytes() for file in output.glob("*.safetensors")}
    before = sorted(path.name for path in tmp_path.iterdir())
    for kill in range(2 * KILLS):
        with subprocess.Popen(streamed, start_new_session=True) as child:
            while child.poll() is None and not maps_a_file(child.pid, cache):
                time.sleep(0.002)
            assert child.poll() is None, "it kept nothing in files"
            # Half of them while weights are loaded, converted and cut; the others while they are saved and checked.
            while kill % 2 and child.poll() is None and not list(tmp_path.glob(".swm-scratch-*/new/out/*")):
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 3))
            os.killpg(child.pid, signal.SIGKILL) if child.poll() is None else None
        assert sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) < 100_000
        if output.exists():
            check_ours(output)
    subprocess.run(streamed, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert {file.name: file.read_bytes() for file in output.glob("*.safetensors")} == whole


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
