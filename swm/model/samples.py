"""Samples: token ids, and what else the model is given for those of them that hold an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from swm.shown.values import short_repr

# On a CPU, what a layer makes of so many tokens stays in its caches: layers of width 576 take half as much time again
# for a token with 4,096 at once. Other devices get four times as many.
TOKENS_PER_BATCH = 1024
TIMES_ELSEWHERE = 4

# Smaller batches cost more for each token: on a CPU, layers of width 576 take 9 % more time with 256 at once than 1280.
FEWEST_TOKENS = 256


@dataclass(frozen=True)
class Samples:
    """Token ids `[samples, seq]`; `images` holds, by its row, what a sample with an image gives the model beside them.

    `placeholders` are the ids that stand for pieces of an image.
    """

    ids: Tensor
    images: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
    placeholders: Sequence[int] = ()

    __repr__ = short_repr

    @classmethod
    def of(cls, text: Tensor | Samples) -> Samples:
        """Token ids alone as samples; samples themselves."""
        return text if isinstance(text, Samples) else cls(text)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | Sequence[int]) -> Samples:
        chosen = range(len(self))[rows] if isinstance(rows, slice) else rows
        images = {new: self.images[old] for new, old in enumerate(chosen) if old in self.images}
        return replace(self, ids=self.ids[rows if isinstance(rows, slice) else list(rows)], images=images)

    @property
    def seq_len(self) -> int:
        """The number of tokens of each sample."""
        return self.ids.shape[1]

    def batches(
        self, batch_size: int | None = None, batches: int = 1, device: torch.device | None = None
    ) -> list[slice]:
        """As `batch_rows`; a sample with an image is alone in its batch, as images differ in size."""
        parts = []
        for rows in batch_rows(len(self), self.seq_len, batch_size, batches, device):
            start = rows.start
            for row in [row for row in range(rows.start, rows.stop) if row in self.images]:
                parts += [slice(start, row), slice(row, row + 1)]
                start = row + 1
            parts.append(slice(start, rows.stop))
        return [rows for rows in parts if rows.start < rows.stop]

    @property
    def predicted(self) -> Tensor:
        """Whether a model has to predict what follows each place `[samples, seq - 1]`: not the pieces of an image."""
        return ~self._pieces[:, 1:]

    @property
    def text(self) -> Tensor:
        """Ids `[samples, seq]` that can be read without an image: the last token stands for each piece of one."""
        return torch.where(self._pieces, self.ids[:, -1:], self.ids)

    @property
    def _pieces(self) -> Tensor:
        return torch.isin(self.ids, torch.tensor(self.placeholders, dtype=self.ids.dtype))


def batch_rows(
    samples: int, seq: int, batch_size: int | None = None, batches: int = 1, device: torch.device | None = None
) -> list[slice]:
    """The samples of each batch of a text `[samples, seq]`.

    Args:
        samples: The number of samples.
        seq: The number of tokens of a sample.
        batch_size: Samples in a batch; without it, as many as fit into `TOKENS_PER_BATCH`.
        batches: The fewest batches to make, where none of them gets smaller than `FEWEST_TOKENS` for that.
        device: Where the model runs; the CPU by default.
    """
    most = TOKENS_PER_BATCH * (TIMES_ELSEWHERE if device is not None and device.type != "cpu" else 1)
    tokens = min(most, max(FEWEST_TOKENS, samples * seq // batches))
    size = batch_size or max(1, tokens // seq)
    return [slice(i, min(i + size, samples)) for i in range(0, samples, size)]
