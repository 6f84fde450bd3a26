"""Memory that stays with the process for the next tensors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from swm.memory import reused_heap as module

# Pages that the system gives for eight tensors of 64 MiB, one after the other, after a few as large: glibc's heap needs
# these to find places for all that is allocated beside them.
FAULTS = """
import resource, sys
import torch
from swm.memory.reused_heap import reused_heap

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def held():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // 2**20

torch.zeros(2**24).add_(1)
with reused_heap(sys.argv[1] == "yes"):
    for _ in range(24):
        torch.ones(2**24)
    before = faults()
    for _ in range(8):
        torch.ones(2**24)
    inside, within = faults() - before, held()
print(inside, within - held())
"""

glibc = pytest.mark.skipif(module._glibc() is None, reason="another C library than glibc")


def run(wanted: str, **environment: str) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, wanted],
        env={**{k: v for k, v in module.os.environ.items() if k not in module.CHOSEN}, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    pages, back = done.stdout.split()
    return int(pages), int(back)


@glibc
def test_memory_of_tensors_is_used_again_and_given_back_in_the_end() -> None:
    pages, back = run("yes")
    usual, _ = run("no")
    # Without it each tensor has its 16,384 pages cleared anew.
    assert pages < usual / 4
    assert back >= 60


@glibc
def test_what_the_user_chose_stays() -> None:
    pages, _ = run("yes", MALLOC_MMAP_THRESHOLD_="1000000")
    assert pages > 8 * 16


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.ctypes, "CDLL", lambda name: object())
    with module.reused_heap():
        pass
