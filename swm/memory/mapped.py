"""Tensors in mapped files: the kernel keeps as much of them in memory as fits, and writes the rest to the disk."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from swm.errors import SwmError
from swm.memory.byte_size import written_bytes

# What must stay free on the disk.
SPARE = 2**28


def mapped_tensor(shape: Sequence[int], dtype: torch.dtype, folder: Path) -> Tensor:
    """A tensor of zeros on the CPU, in a file of its own that has no name.

    The file is removed as soon as it is mapped, so its space is free again when the tensor goes, and when the process
    ends, however it ends.

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
    try:
        free = os.statvfs(folder)
        if size + SPARE > free.f_bavail * free.f_frsize:
            raise SwmError(
                f"{folder} has {written_bytes(free.f_bavail * free.f_frsize)} free and needs {written_bytes(size)} "
                "for tensors that do not fit into memory; set SWM_CACHE to a folder on a larger disk, raise memory, "
                "or take less calibration text"
            )
        handle, name = tempfile.mkstemp(dir=folder, prefix=".swm-mapped-")
        try:
            os.ftruncate(handle, size)
            os.close(handle)
            storage = torch.UntypedStorage.from_file(name, shared=True, nbytes=size)
        finally:
            os.unlink(name)
    except OSError as error:
        raise SwmError(f"no file for tensors can be made in {folder}: {error.strerror or error}") from error
    return torch.empty(0, dtype=dtype).set_(storage, 0, tuple(shape))  # type: ignore[call-overload,no-any-return,unused-ignore]
