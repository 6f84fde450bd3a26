"""Tensors beyond the limit lie in mapped files that nothing leaves behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from swm.errors import SwmError
from swm.files.scratch import clear_all_dead
from swm.memory import mapped
from swm.memory.kept_results import KeptResults
from swm.memory.machine import available_memory, own_memory, physical_memory
from swm.memory.mapped import mapped_tensor
from swm.memory.process import lies_in_file
from swm.memory.working_memory import SMALL, WorkingMemory

# Stops where the file exists and is not mapped yet.
CHILD = """
import sys, time
from pathlib import Path
import torch
from swm.memory import mapped
if sys.argv[2] == "named":
    mapped.DESCRIPTORS = Path("/none")
class Storage:
    def from_file(*args, **options):
        print("ready", flush=True)
        time.sleep(600)
torch.UntypedStorage = Storage
mapped.mapped_tensor((2**30,), torch.uint8, Path(sys.argv[1]))
"""


def killed_while_it_makes_a_file(folder: Path, how: str) -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD, str(folder), how], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        os.kill(child.pid, signal.SIGKILL)


def test_what_exceeds_the_limit_is_mapped(tmp_path: Path) -> None:
    memory = WorkingMemory(limit=3 * SMALL, folder=tmp_path)
    first = memory.empty((2, SMALL // 4), torch.float32)
    second = memory.empty((SMALL,), torch.bfloat16)
    assert (memory.used, memory.mapped) == (2 * SMALL, 2 * SMALL)
    second.fill_(2.5)
    view = second[5:7]
    del first, second
    gc.collect()
    assert (memory.used, memory.mapped, memory.most_mapped) == (0, 2 * SMALL, 2 * SMALL)
    assert view.tolist() == [2.5, 2.5]
    del view
    gc.collect()
    assert memory.mapped == 0


def test_what_exists_already_is_kept_or_copied(tmp_path: Path) -> None:
    memory = WorkingMemory(limit=SMALL, folder=tmp_path)
    ones = torch.ones(SMALL // 4)
    assert memory.keep(ones) is ones
    copied = memory.keep(ones + 1)
    assert (memory.used, memory.mapped) == (SMALL, SMALL)
    assert bool((copied == 2).all())


def test_a_tensor_that_lies_in_a_file_is_kept_as_it_is(tmp_path: Path) -> None:
    memory = WorkingMemory(limit=0, folder=tmp_path)
    tensor = mapped_tensor((SMALL,), torch.uint8, tmp_path)
    assert memory.keep(tensor) is tensor
    assert (memory.used, memory.most_mapped) == (0, 0)
    assert not lies_in_file(torch.ones(SMALL))


def test_results_inside_a_block_are_kept(tmp_path: Path) -> None:
    memory, numbers = WorkingMemory(limit=0, folder=tmp_path), np.ones(SMALL, dtype=np.float32)
    with KeptResults(memory):
        whole = torch.from_numpy(numbers)
        parts = [part.contiguous() for part in whole.view(2, -1, 2).chunk(2, dim=-1)]
        whole.mul_(2)
    assert [lies_in_file(tensor) for tensor in (whole, *parts)] == [True] * 3
    assert memory.mapped == 8 * SMALL
    assert (float(whole.sum()), float(parts[0].sum())) == (2 * SMALL, SMALL / 2)
    assert not lies_in_file(torch.ones(SMALL))


def test_small_tensors_and_an_unlimited_memory_need_no_file(tmp_path: Path) -> None:
    WorkingMemory(limit=0, folder=tmp_path / "none").empty((4,), torch.float32)
    WorkingMemory(folder=tmp_path / "none").empty((SMALL,), torch.float32)
    assert not (tmp_path / "none").exists()


def test_a_mapped_file_has_no_name_and_holds_zeros(tmp_path: Path) -> None:
    tensor = mapped_tensor((3, 5), torch.float64, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert tensor.shape == (3, 5)
    assert not tensor.any()
    tensor[1] = torch.arange(5, dtype=torch.float64)
    assert tensor.sum() == 10


def test_an_empty_tensor_needs_no_file(tmp_path: Path) -> None:
    assert mapped_tensor((0, 5), torch.float32, tmp_path / "none").shape == (0, 5)


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "SPARE", 2**70)
    with pytest.raises(SwmError, match="SWM_CACHE"):
        mapped_tensor((4,), torch.float32, tmp_path)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SwmError, match="no file for tensors"):
        mapped_tensor((4,), torch.float32, tmp_path / "none")


def test_mapped_pages_are_no_memory_of_the_process(tmp_path: Path) -> None:
    before = own_memory()
    tensor = mapped_tensor((64 * 2**20,), torch.uint8, tmp_path)
    tensor.fill_(1)
    assert own_memory() - before < 32 * 2**20
    assert 0 < available_memory() <= physical_memory()


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="this system makes no files without names")
def test_a_kill_leaves_nothing_of_a_file_without_a_name(tmp_path: Path) -> None:
    killed_while_it_makes_a_file(tmp_path, "unnamed")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_a_kill_leaves_of_a_named_file_goes_with_the_next_mapped_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWM_CACHE", str(tmp_path))
    monkeypatch.setattr(mapped, "DESCRIPTORS", tmp_path / "none")
    killed_while_it_makes_a_file(tmp_path, "named")
    assert len(list(tmp_path.glob("*/new/mapped"))) == 1
    tensor = WorkingMemory(limit=0).empty((SMALL,), torch.uint8)
    assert list(tmp_path.iterdir()) == []
    assert tensor.fill_(3).sum() == 3 * SMALL
    killed_while_it_makes_a_file(tmp_path, "named")
    assert clear_all_dead() == 1
    assert list(tmp_path.iterdir()) == []
