"""How much memory there is: of the machine, of the group of processes that this one belongs to, and what it takes."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from swm.memory.control_groups import group_memory

MEMINFO = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")


def physical_memory() -> int:
    """Bytes of memory that this process may use at most: those of the machine, or fewer where a group has a limit."""
    group = group_memory()
    return _machine_memory() if group is None else min(_machine_memory(), group.limit)


def available_memory() -> int:
    """Bytes that are free now, or can be freed without writing anything to a disk; all of it where nobody says."""
    free, group = _line(MEMINFO, "MemAvailable"), group_memory()
    left = [] if group is None else [group.left]
    return max(0, min([physical_memory() if free is None else free, *left]))


def own_memory() -> int:
    """Bytes of this process's own memory: what is in no file of the user's, in memory or swapped out.

    Elsewhere than on Linux, the most it ever had in all.
    """
    anonymous = _line(STATUS, "RssAnon")
    if anonymous is not None:
        return anonymous + (_line(STATUS, "VmSwap") or 0)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _line(file: Path, name: str) -> int | None:
    """The value of a line `name: n kB`, in bytes."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    values = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(values[0]) * 1024 if values else None
