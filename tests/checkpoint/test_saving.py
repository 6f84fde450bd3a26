"""Saving: what stands at the output is a whole folder that loads to the same model, or nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from swm.builtin.steps.merge import MergeStep
from swm.checkpoint import saving as checkpoint
from swm.errors import CheckpointError
from swm.files.manifest import MANIFEST
from swm.mergers.average import Average
from swm.mergers.delete import Delete

pytestmark = pytest.mark.own_process


def extras(folder: Path, verification: dict[str, Any]) -> None:
    (folder / checkpoint.REPORT).write_text(json.dumps(verification))


def beside(output: Path) -> list[str]:
    """The names of all that stands in the output's parent folder."""
    return sorted(path.name for path in output.parent.iterdir())


def untouched(old: Path) -> bool:
    """Whether the fixture's folder stands as it was and alone."""
    return (old / checkpoint.REPORT).read_text() == "old" and beside(old) == ["out"]


@pytest.fixture
def model(stories: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(stories).eval()


@pytest.fixture
def save(model: PreTrainedModel, stories: Path, ids: Tensor) -> Callable[..., dict[str, Any]]:
    return lambda output, extras=extras, **options: checkpoint.save(model, stories, output, ids[:2], extras, **options)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """An output folder of an earlier run."""
    output = tmp_path / "out"
    output.mkdir()
    (output / checkpoint.REPORT).write_text("old")
    return output


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the fresh process in tests of what surrounds it."""
    monkeypatch.setattr(checkpoint, "verify", lambda *args, **kwargs: {"max_abs_difference": 0.0})


def test_the_fresh_process_multiplies_matrices_as_this_one_does(save, tmp_path: Path) -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        found = save(tmp_path / "out")
    finally:
        torch.set_float32_matmul_precision("highest")
    assert found["max_abs_difference"] <= 1e-5


def test_a_merged_model_reloads_in_a_fresh_process_and_gives_the_same(
    tiny, view_of, family: str, ids: Tensor, tmp_path: Path
) -> None:
    view = view_of(tiny(family))
    MergeStep("1-2", 1, Average()).apply(view, {})
    MergeStep("3-4", 4, Delete(), "top").apply(view, {})
    assert view.numbers == [0, 1, 4, 5]
    found = checkpoint.save(view.model, tmp_path, tmp_path / "out", ids[:2], extras)

    assert found["max_abs_difference"] <= 1e-5
    assert found["generated_equal"]
    assert found["class"] == type(view.model).__name__
    config_file = tmp_path / "out" / "config.json"
    assert AutoConfig.from_pretrained(config_file).num_hidden_layers == 4
    assert beside(tmp_path / "out") == ["out"]
    written = ["config.json", "generation_config.json", "model.safetensors", "report.json", MANIFEST]
    assert beside(config_file) == written


def test_the_folder_of_a_real_model_replaces_an_old_one_and_has_its_vocabulary_byte_for_byte(
    save, stories: Path, old: Path
) -> None:
    with pytest.raises(CheckpointError, match="exists"):
        checkpoint.check_output(old, overwrite=False)
    assert untouched(old)
    output = checkpoint.check_output(old, overwrite=True)
    found = save(output, overwrite=True)
    assert found["max_abs_difference"] == 0
    assert json.loads((output / checkpoint.REPORT).read_text()) == found
    assert (output / "tokenizer.json").read_bytes() == (stories / "tokenizer.json").read_bytes()
    # safetensors writes for the owner alone.
    assert len({path.stat().st_mode for path in output.iterdir()}) == 1
    assert beside(output) == ["out"]


def test_weights_that_differ_on_disk_are_found_and_nothing_is_left(
    save, model: PreTrainedModel, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = model.save_pretrained

    def tampered(folder: Path) -> None:
        write(folder)
        weights = load_file(folder / "model.safetensors")
        weights["model.layers.2.mlp.down_proj.weight"][0, 0] += 1
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(model, "save_pretrained", tampered)
    with pytest.raises(CheckpointError, match="not the one in memory: logits differ by"):
        save(old, overwrite=True)
    assert untouched(old)


def test_a_reload_that_dies_without_a_word_is_an_error(save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(CheckpointError, match="cannot be loaded: the process that loads it ended with 1"):
        save(tmp_path / "out")
    assert beside(tmp_path / "out") == []


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize("error", [OSError(28, "No space left"), SafetensorError("I/O error: No space left")])
@pytest.mark.parametrize("place", ["weights", "extras"])
def test_a_full_disk_leaves_nothing_and_keeps_the_old_folder(
    save, model: PreTrainedModel, old: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception
) -> None:
    def full(folder: Path, *args: Any) -> None:
        (folder / "half").write_text("half")
        raise error

    if place == "weights":
        monkeypatch.setattr(model, "save_pretrained", full)
    with pytest.raises(CheckpointError, match=r"cannot be written: (I/O error: )?No space left"):
        save(old, full if place == "extras" else extras, overwrite=True)
    assert untouched(old)


@pytest.mark.usefixtures("unverified")
def test_an_interrupted_replacement_puts_the_old_folder_back(save, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        if path.parent.name == "new":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(old, overwrite=True)
    assert untouched(old)


@pytest.mark.usefixtures("unverified")
def test_a_folder_that_appears_during_the_run_is_not_replaced(save, old: Path) -> None:
    with pytest.raises(CheckpointError, match="appeared while the run was going"):
        save(old)
    assert untouched(old)


CHILD = """
import sys, time
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM
from swm.checkpoint import saving as checkpoint
stories, output, stop = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
rename = Path.rename
def reached(point):
    if point == stop:
        print(point, flush=True)
        time.sleep(600)
def watched(path, target):
    rename(path, target)
    reached("old folder moved away" if target.parent.name == "old" else "new folder in place")
def extras(folder, verification):
    (folder / checkpoint.REPORT).write_text("new")
    reached("files written")
Path.rename = watched
if stop != "verification":
    checkpoint.verify = lambda *args, **kwargs: {}
model = AutoModelForCausalLM.from_pretrained(stories).eval()
checkpoint.save(model, stories, output, torch.arange(3, 11)[None], extras, overwrite=output.exists())
"""


def killed(stories: Path, output: Path, point: str) -> None:
    """Save in another process and kill it, and what it started, at a point of no warning."""
    command = [sys.executable, "-c", CHILD, str(stories), str(output), point]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as child:
        assert child.stdout is not None
        if point == "verification":
            while not list(output.parent.glob(".swm-scratch-*/new/out/*/probe.safetensors")):
                assert child.poll() is None
                time.sleep(0.01)
        else:
            assert child.stdout.readline().strip() == point
        os.killpg(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_kill_during_verification_leaves_no_output_and_the_next_run_succeeds(
    save, stories: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    killed(stories, output, "verification")
    assert beside(output)[0].startswith(".swm-scratch-")
    # The process that was to load the folder dies a moment later, and was born with the lock.
    for _ in range(100):
        checkpoint.check_output(output, overwrite=False)
        if not beside(output):
            break
        time.sleep(0.1)
    assert beside(output) == []
    save(output)
    assert beside(output) == ["out"]


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize(
    ("point", "at_output", "recovered"),
    [("files written", "old", "old"), ("old folder moved away", None, "old"), ("new folder in place", "new", "new")],
)
def test_a_kill_while_replacing_keeps_or_restores_a_whole_folder(
    save, model: PreTrainedModel, stories: Path, ids: Tensor, old: Path, point, at_output, recovered
) -> None:
    killed(stories, old, point)
    report = old / checkpoint.REPORT
    assert (report.read_text() if old.exists() else None) == at_output
    if at_output == "new":
        assert torch.equal(AutoModelForCausalLM.from_pretrained(old)(ids).logits, model(ids).logits)

    checkpoint.check_output(old, overwrite=True)
    assert (report.read_text(), beside(old)) == (recovered, ["out"])
    save(old, overwrite=True)
    assert json.loads(report.read_text()) == {"level": "full", "max_abs_difference": 0.0}
    assert beside(old) == ["out"]
