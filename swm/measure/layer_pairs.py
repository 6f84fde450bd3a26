"""LayerPairs: the similarity of all pairs of layers from batches of hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import torch
from torch import Tensor

from swm.interfaces.similarity import SampleMetric, SimilarityMetric
from swm.memory.pieces import pieces_of
from swm.memory.working_memory import WorkingMemory
from swm.model.row_store import RowStore


class LayerPairs:
    """Takes the hidden states of some samples after the other and gives what `metric.pairwise` gives for all of them.

    Of a `SampleMetric` one value a sample and pair is kept. Any other metric needs all samples together: their hidden
    states are then kept as they come, in the type of the model.
    """

    def __init__(self, metric: SimilarityMetric, samples: int, memory: WorkingMemory | None = None) -> None:
        """Nothing is compared yet.

        Args:
            metric: What compares two layers.
            samples: How many samples there are in all.
            memory: Decides where hidden states are kept; in memory by default.
        """
        self._metric = metric
        self._samples = samples
        self._memory = memory or WorkingMemory()
        self._values: list[Tensor] = []
        self._states: list[RowStore] = []
        self._start = 0

    def add(self, layers: Sequence[Tensor]) -> None:
        """The hidden states `[samples, seq, hidden]` of every layer for the next samples."""
        if isinstance(self._metric, SampleMetric):
            for rows in pieces_of(layers[0]):
                self._values.append(self._compared(self._metric, [layer[rows] for layer in layers]))
            return
        self._states = self._states or [RowStore(self._samples, self._memory) for _ in layers]
        rows = slice(self._start, self._start + len(layers[0]))
        for store, layer in zip(self._states, layers, strict=True):
            store.put(rows, layer)
        self._start = rows.stop

    def table(self) -> Tensor:
        """The similarities `[layers, layers]` (float64) of all samples so far."""
        if not isinstance(self._metric, SampleMetric):
            return self._metric.pairwise([store.filled() for store in self._states]).cpu()
        values = torch.cat(self._values, dim=2)
        table = torch.ones(values.shape[:2], dtype=torch.float64)
        for i, j in permutations(range(len(table)), 2):
            table[i, j] = self._metric.reduce(values[i, j])
        return table

    @staticmethod
    def _compared(metric: SampleMetric, layers: Sequence[Tensor]) -> Tensor:
        """The values of the metric `[layers, layers, samples]` (float64), which all layers are converted for once."""
        ready = [layer.float() for layer in layers]
        values = torch.zeros(len(ready), len(ready), len(ready[0]), dtype=torch.float64)
        for i, j in permutations(range(len(ready)), 2):
            values[i, j] = metric.per_sample(ready[i], ready[j]).double().cpu()
        return values
