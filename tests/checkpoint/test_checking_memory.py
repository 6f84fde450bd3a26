"""The check of a saved model keeps in memory what the run may keep, also of weights that transformers puts together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fresh_processes import FreshProcesses
from transformers import AutoModelForCausalLM
from zoo import zoo_model

from swm.checkpoint import reload
from swm.checkpoint.verification import probe, verify
from swm.memory.machine import STATUS
from swm.memory.process import lies_in_file
from swm.memory.working_memory import WorkingMemory
from swm.testing import tiny_model

# The experts of a layer take 24 MiB, in tensors so large that the C library gives them back at once.
EXPERTS = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 3, "num_local_experts": 4}
LAYER = 4 * 3 * 512 * 2048 * 2


@contextmanager
def memory_of_children(parent: int) -> Iterator[list[int]]:
    """The most bytes in no file that a child of a process takes beyond what it begins with; known after the block."""
    first: dict[str, int] = {}
    most, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
                try:
                    lines = Path(f"/proc/{child}/status").read_text().splitlines()
                except OSError:
                    continue
                for line in lines:
                    if line.startswith("RssAnon:"):
                        now = int(line.split()[1]) * 1024
                        most[0] = max(most[0], now - first.setdefault(child, now))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


@pytest.mark.skipif(not STATUS.exists(), reason="Linux alone says how much memory lies in no file")
def test_stacked_experts_are_not_in_memory_when_a_folder_is_checked(
    forked: Callable[[], FreshProcesses], tmp_path: Path
) -> None:
    tiny_model("mixtral", **EXPERTS).to(torch.bfloat16).save_pretrained(tmp_path / "saved")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype="auto").eval()
    before = probe(model, torch.arange(3, 15)[None])
    files = tmp_path / "files"
    peaks = {}
    for name, memory in (("all", WorkingMemory()), ("none", WorkingMemory(0, files))):
        with memory_of_children(forked().parent.pid) as most:
            found = verify(tmp_path / "saved", before, model, memory=memory)
        assert found["max_abs_difference"] == 0
        peaks[name] = most[0]
    assert peaks["all"] > 3 * LAYER
    # Two thirds of a layer twice, while it is put together; the first check has imported what both need.
    assert peaks["none"] < 2 * LAYER
    assert list(files.iterdir()) == []


def kept(folder: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The parameters of a saved model as the check loads it with so much room, and whether each is in a file."""
    monkeypatch.setattr(reload, "SMALL", 1)
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    with reload.kept_in_files(str(scratch), room):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert list(scratch.iterdir()) == [], "a name outlives the loading, and would outlive a kill"
    return {name: (value, lies_in_file(value)) for name, value in model.named_parameters()}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    zoo_model("mixtral").save_pretrained(tmp_path)
    return tmp_path


def test_what_was_put_together_lies_in_files_and_is_the_same(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = zoo_model("mixtral").state_dict()
    for name, (value, in_file) in kept(saved, 0, monkeypatch).items():
        assert in_file
        assert torch.equal(value, expected[name])


def test_what_fits_into_the_room_stays_in_memory(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experts = {k: v.nbytes for k, v in zoo_model("mixtral").named_parameters() if ".experts." in k}
    room = 2 * max(experts.values())
    parameters = kept(saved, room, monkeypatch)
    in_memory = sum(experts[name] for name in experts if not parameters[name][1])
    assert 0 < in_memory <= room
    assert any(parameters[name][1] for name in experts)


def test_too_small_a_disk_is_said(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload.os, "statvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=4096))
    with pytest.raises(OSError, match="too little space for weights that do not fit into memory; set SWM_CACHE"):
        kept(saved, 0, monkeypatch)
