"""SharedArguments: the arguments of layers, kept once where all batches are given the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from swm.memory.working_memory import WorkingMemory


class SharedArguments:
    """Masks and positions are the same for all batches of one size, so those of the first of them are kept."""

    def __init__(self, memory: WorkingMemory) -> None:
        """`memory` decides where those are kept that differ from batch to batch."""
        self._memory = memory
        self._first: dict[str, Tensor] = {}
        # Of this batch, by identity: the tensor, which stays alive with it, and what is kept for it.
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}

    def begin(self) -> None:
        """Begin a batch."""
        self._seen.clear()

    def kept(self, place: str, value: Any) -> Any:
        """What to keep of a layer's argument: the value itself, or an equal one of an earlier batch.

        `place` names the layer and the argument. Tuples and plain dictionaries are taken apart.
        """
        if type(value) is tuple:
            return tuple(self.kept(f"{place} {i}", item) for i, item in enumerate(value))
        if type(value) is dict:
            return {name: self.kept(f"{place} {name}", item) for name, item in value.items()}
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self._seen:
            first, kept = self._first.setdefault(place, value), value
            if first is not value and (first.shape, first.dtype) == (value.shape, value.dtype):
                kept = first if torch.equal(first, value) else self._memory.keep(value)
            self._seen[id(value)] = value, kept
        return self._seen[id(value)][1]
