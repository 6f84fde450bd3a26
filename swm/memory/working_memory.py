"""WorkingMemory: decides of each large tensor whether it is kept in memory or in a mapped file."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from swm.files.cache_folder import cache_folder
from swm.files.scratch import clear_dead
from swm.memory.mapped import check_room, mapped_tensor
from swm.memory.process import lies_in_file

# Smaller tensors are always in memory: a mapped file takes whole pages and a call of the kernel.
SMALL = 2**20


class WorkingMemory:
    """Large tensors: in memory while all of them take no more than `limit` bytes, the others in mapped files.

    The numbers are the same in both. On other devices than the CPU, all are kept on the device.
    """

    def __init__(self, limit: float = math.inf, folder: Path | None = None) -> None:
        """Nothing is made before it is needed.

        Args:
            limit: How many bytes may be kept in memory at once; by default all of them.
            folder: Where mapped files lie; the cache folder by default.
        """
        self.limit = limit
        self.used = 0
        """Bytes of the tensors that are kept in memory now."""
        self.mapped = 0
        """Bytes of those in mapped files now."""
        self.most_mapped = 0
        self._folder = folder

    @property
    def unlimited(self) -> bool:
        """Whether there is no limit."""
        return math.isinf(self.limit)

    def empty(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
        """A tensor without defined contents. Raises SwmError where the disk has too little space for it."""
        size = math.prod(shape) * dtype.itemsize
        if (device is not None and device.type != "cpu") or size < SMALL:
            return torch.empty(tuple(shape), dtype=dtype, device=device)
        if self.used + size <= self.limit:
            tensor = self._counted(torch.empty(tuple(shape), dtype=dtype))
        else:
            folder = self.existing_folder()
            if not self.most_mapped:
                clear_dead(folder)
            tensor = mapped_tensor(shape, dtype, folder)
            self.mapped += size
            self.most_mapped = max(self.most_mapped, self.mapped)
            weakref.finalize(tensor.untyped_storage(), self._forget, 0, size)
        return tensor

    def keep(self, tensor: Tensor) -> Tensor:
        """The tensor itself where it may stay in memory or is mapped already, else a copy of it in a mapped file."""
        size = tensor.numel() * tensor.dtype.itemsize
        if tensor.device.type != "cpu" or size < SMALL or lies_in_file(tensor):
            return tensor
        if self.used + size <= self.limit:
            return self._counted(tensor)
        return self.empty(tensor.shape, tensor.dtype).copy_(tensor)

    def keep_all(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each of them as `keep` gives it."""
        return {name: self.keep(tensor) for name, tensor in tensors.items()}

    def check_room(self, size: int) -> None:
        """Raise SwmError where so many bytes more fit neither into memory nor on the disk."""
        beyond = self.used + size - self.limit
        if beyond > 0:
            check_room(min(size, math.ceil(beyond)), self.existing_folder())

    @property
    def left(self) -> float:
        """How many bytes more may be kept in memory now."""
        return max(0, self.limit - self.used)

    def existing_folder(self) -> Path:
        """Where mapped files lie; it is made where it does not exist."""
        folder = self._folder or cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _counted(self, tensor: Tensor) -> Tensor:
        size = tensor.numel() * tensor.dtype.itemsize
        self.used += size
        weakref.finalize(tensor.untyped_storage(), self._forget, size, 0)
        return tensor

    def _forget(self, used: int, mapped: int) -> None:
        self.used -= used
        self.mapped -= mapped
