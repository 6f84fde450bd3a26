"""Tensors in mapped files: the kernel keeps as much of them in memory as fits, and writes the rest to the disk."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from swm.errors import SwmError
from swm.files.scratch import scratch
from swm.memory.byte_size import written_bytes

# What must stay free on the disk.
SPARE = 2**28
# Where an open file without a name can be opened by one.
DESCRIPTORS = Path("/proc/self/fd")


def mapped_tensor(shape: Sequence[int], dtype: torch.dtype, folder: Path) -> Tensor:
    """A tensor of zeros on the CPU, in a file of its own that has no name.

    Its space is free again when the tensor goes, and when the process ends, however it ends. Linux makes the file
    without a name; elsewhere it has one in a scratch folder until it is mapped, which the next run clears after a kill.

    Args:
        shape: The sizes.
        dtype: The type of the elements.
        folder: An existing folder on the file system that takes the file.

    Raises:
        SwmError: The file system has too little space, or cannot be written.
    """
    size = math.prod(shape) * dtype.itemsize
    if not size:
        return torch.zeros(tuple(shape), dtype=dtype)
    check_room(size, folder)
    try:
        with _file(folder) as (handle, name):
            os.ftruncate(handle, size)
            storage = torch.UntypedStorage.from_file(name, shared=True, nbytes=size)
    except OSError as error:
        raise SwmError(f"no file for tensors can be made in {folder}: {error.strerror or error}") from error
    return torch.empty(0, dtype=dtype).set_(storage, 0, tuple(shape))  # type: ignore[call-overload,no-any-return,unused-ignore]


def check_room(size: int, folder: Path) -> None:
    """Raise SwmError where the file system of an existing folder has no room for so many bytes of tensors."""
    try:
        free = os.statvfs(folder)
    except OSError as error:
        raise SwmError(f"no file for tensors can be made in {folder}: {error.strerror or error}") from error
    if size + SPARE > free.f_bavail * free.f_frsize:
        raise SwmError(
            f"{folder} has {written_bytes(free.f_bavail * free.f_frsize)} free and needs {written_bytes(size)} "
            "for tensors that do not fit into memory; set SWM_CACHE to a folder on a larger disk or raise memory"
        )


@contextmanager
def _file(folder: Path) -> Iterator[tuple[int, str]]:
    """A new file that nobody else can find, open for the block, and the path by which this process can open it."""
    handle = _unnamed(folder)
    if handle is not None:
        try:
            yield handle, str(DESCRIPTORS / str(handle))
        finally:
            os.close(handle)
        return
    with scratch(folder) as place:
        file = place.new / "mapped"
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            yield handle, str(file)
        finally:
            os.close(handle)


def _unnamed(folder: Path) -> int | None:
    """A file that has no name from its beginning; None where the system or the file system has none."""
    if not hasattr(os, "O_TMPFILE") or not DESCRIPTORS.is_dir():
        return None
    try:
        return os.open(folder, os.O_RDWR | os.O_TMPFILE, 0o600)
    except OSError:
        return None
