"""LayerPairs: the similarity of all pairs of layers from batches of hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import torch
from torch import Tensor

from swm.interfaces.similarity import SampleMetric, SimilarityMetric
from swm.memory.working_memory import WorkingMemory
from swm.model.row_store import RowStore


class LayerPairs:
    """Takes the hidden states of some samples after the other and gives what `metric.pairwise` gives for all of them.

    Of a `SampleMetric` one value a sample and pair is kept. Any other metric needs all samples together: their hidden
    states are then kept as they come, in the type of the model.
    """

    def __init__(self, metric: SimilarityMetric, memory: WorkingMemory | None = None) -> None:
        """`memory` decides where hidden states are kept."""
        self._metric = metric
        self._memory = memory or WorkingMemory()
        self._values: list[Tensor] = []
        self._states: list[Sequence[Tensor]] = []

    def add(self, layers: Sequence[Tensor]) -> None:
        """The hidden states `[samples, seq, hidden]` of every layer for the next samples."""
        if not isinstance(self._metric, SampleMetric):
            self._states.append(layers)
            return
        ready = [layer.float() for layer in layers]
        values = torch.zeros(len(ready), len(ready), len(ready[0]), dtype=torch.float64)
        for i, j in permutations(range(len(ready)), 2):
            values[i, j] = self._metric.per_sample(ready[i], ready[j]).double().cpu()
        self._values.append(values)

    def table(self) -> Tensor:
        """The similarities `[layers, layers]` (float64) of all samples so far."""
        if not isinstance(self._metric, SampleMetric):
            return self._metric.pairwise([self._joined(parts) for parts in zip(*self._states, strict=True)]).cpu()
        values = torch.cat(self._values, dim=2)
        table = torch.ones(values.shape[:2], dtype=torch.float64)
        for i, j in permutations(range(len(table)), 2):
            table[i, j] = self._metric.reduce(values[i, j])
        return table

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        whole = RowStore(sum(map(len, parts)), self._memory)
        start = 0
        for part in parts:
            whole.put(slice(start, start := start + len(part)), part)
        return whole.filled()
