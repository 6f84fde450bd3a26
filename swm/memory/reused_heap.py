"""Memory of tensors that stays with the process for the next ones, while a model is trained."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Numbers of glibc's malloc.h: what free memory at the end of the heap goes back, and from which size on a block is
# mapped by itself.
TRIM, MAPPED = -1, -3
MOST = 2**31 - 1
# What glibc's own adjustment comes to in a process with large tensors; it cannot be switched on again.
USUAL_MAPPED = 32 * 2**20
USUAL_TRIM = 2 * USUAL_MAPPED
# With one of these the user has chosen, and MALLOC_... without more.
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")


@contextmanager
def reused_heap(wanted: bool = True) -> Iterator[None]:
    """Inside, memory of tensors on the CPU is not given back to the system when they are gone.

    A step of a training makes the same tensors again and again. Each above 32 MiB is a mapping of its own to glibc, so
    that the system clears all its pages anew, which takes as long as the arithmetic does. The most memory that the
    process holds may grow, as what was freed is in pieces; in the end all free memory goes back. Elsewhere than with
    glibc, and where the environment has settings for its allocator, nothing is done.

    Args:
        wanted: False to do nothing.
    """
    library = _glibc() if wanted and not any(name in os.environ for name in CHOSEN) else None
    if library is None:
        yield
        return
    library.mallopt(MAPPED, MOST)
    library.mallopt(TRIM, MOST)
    try:
        yield
    finally:
        library.mallopt(MAPPED, USUAL_MAPPED)
        library.mallopt(TRIM, USUAL_TRIM)
        library.malloc_trim(0)


def _glibc() -> Any:
    """The C library, or None where it is another one."""
    try:
        library = ctypes.CDLL(None)
        return library if all(hasattr(library, name) for name in ("gnu_get_libc_version", "malloc_trim")) else None
    except (OSError, TypeError):
        return None
