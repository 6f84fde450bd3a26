"""What a process knows of its memory, and gives back of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from swm.memory.machine import STATUS

# Blocks between which small ones stay; the C library raises what it keeps with the size of what was freed.
SCRIPT = """
import torch
from swm.memory.machine import own_memory
from swm.memory.process import give_freed_memory_back
{first}
kept, before = [], own_memory()
for size in range(8, 24):
    large = [torch.ones(size * 2**18) for _ in range(4)]
    kept.append(torch.ones(100))
    del large
print(own_memory() - before)
"""


@pytest.mark.skipif(not STATUS.exists(), reason="Linux alone says how much memory lies in no file")
def test_what_large_tensors_leave_goes_back_to_the_system() -> None:
    script = SCRIPT.format(first="assert give_freed_memory_back()")
    left = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert int(left) < 8 * 2**20


# Small blocks below one that stays: the C library keeps all of them for later.
FREED = """
import torch
from swm.memory.machine import own_memory
from swm.memory.process import trim_freed_memory
before = own_memory()
small = [torch.ones(2**13) for _ in range(2**11)]
kept = torch.ones(2**13)
del small
left = own_memory() - before
assert trim_freed_memory()
print(left, own_memory() - before)
"""


@pytest.mark.skipif(not STATUS.exists(), reason="Linux alone says how much memory lies in no file")
def test_what_was_freed_before_is_not_counted_as_used() -> None:
    printed = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True).stdout
    kept, trimmed = map(int, printed.split())
    assert kept > 48 * 2**20
    assert trimmed < 8 * 2**20
