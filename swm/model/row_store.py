"""RowStore: a tensor of all samples, collected batch by batch."""

from __future__ import annotations

from torch import Tensor

from swm.errors import ModelError
from swm.memory.working_memory import WorkingMemory


class RowStore:
    """Collects the rows of a tensor `[samples, ..]` batch by batch; a single batch is not copied."""

    def __init__(self, samples: int, memory: WorkingMemory) -> None:
        """`memory` decides where the tensor is kept."""
        self.samples = samples
        self.tensor: Tensor | None = None
        self._memory = memory

    def put(self, rows: slice, values: Tensor) -> None:
        """Keep the `values` of these samples."""
        if len(values) == self.samples:
            self.tensor = self._memory.keep(values)
            return
        if self.tensor is None:
            self.tensor = self._memory.empty((self.samples, *values.shape[1:]), values.dtype, values.device)
        self.tensor[rows] = values

    def filled(self) -> Tensor:
        """The tensor. Raises ModelError where nothing was put into it."""
        if self.tensor is None:
            raise ModelError("no samples were run")
        return self.tensor
