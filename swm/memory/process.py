"""The memory of this process: what lies in it and what in files, and what the C library does with freed memory.

This module imports nothing of swm, for the process that checks a saved folder runs it too.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

# What lies where in the memory of this process.
ADDRESSES = Path("/proc/self/maps")
# The number of that setting of mallopt; blocks of so many bytes are given back.
MMAP_THRESHOLD, LARGE = -3, 4 * 2**20


def lies_in_file(tensor: Any) -> bool:
    """Whether a tensor on the CPU is mapped from a file; False where the system does not say."""
    try:
        lines = ADDRESSES.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    address = tensor.data_ptr()
    for line in lines:
        span, _, rest = line.partition(" ")
        first, _, last = span.partition("-")
        if int(first, 16) <= address < int(last, 16):
            # Behind rights, offset and device: the number of the file, 0 for none.
            return rest.split()[3] != "0"
    return False


def give_freed_memory_back() -> bool:
    """Let what large tensors leave go back to the system at once, from now on; says whether that is possible here.

    The C library of Linux keeps it otherwise, in pieces that later tensors may not fit into, so that a process may take
    twice what it uses. The price is that the kernel clears the memory of each large tensor anew.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, LARGE))
    except (OSError, AttributeError, TypeError):
        return False


def trim_freed_memory() -> bool:
    """Give memory that was freed before now back to the system, so that what is measured is used; says as above."""
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (OSError, AttributeError, TypeError):
        return False
