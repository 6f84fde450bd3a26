"""SimilarityMetric: how alike two sets of activations are."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from swm.interfaces.strategy import Strategy
from swm.memory.pieces import pieces_of


class SimilarityMetric(Strategy):
    """Compares two activations of the same text.

    `space` says what a depth trial compares at the end of the model: `hidden` is the last layer's output,
    `normed` the same after the final norm (what the released SWM reads), `logits` the next-token scores.
    """

    kind: ClassVar[str] = "similarity"
    space: ClassVar[Literal["hidden", "normed", "logits"]] = "normed"
    symmetric: ClassVar[bool] = False
    """Whether `compare(a, b)` is `compare(b, a)`, so that half of a table of pairs will do."""

    @abstractmethod
    def compare(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> float:
        """Similarity of two float32 tensors `[samples, seq, hidden]` (`vocabulary` last for logits).

        `mask` is a boolean `[samples, seq]`, False for padding. Higher is more alike, 1.0 for equal inputs.
        The value must depend on the samples only, never on how they were batched.
        """

    def compare_states(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> float:
        """As `compare`, of tensors of any type; override it where no copy of all samples in float32 is needed."""
        return self.compare(reference.float(), candidate.float(), mask)

    def working_bytes(self) -> int:
        """Bytes that a comparison takes beside pieces of what it compares, whatever the length of the text."""
        return 0

    def check(self, samples: int, seq_len: int) -> None:
        """Raise ValueError when activations of that many samples and tokens cannot be compared."""

    def pairwise(self, layers: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """`compare(layers[i], layers[j])` for all i, j, `[n, n]` float64; override it where that is cheaper."""
        table = torch.ones(len(layers), len(layers), dtype=torch.float64)
        pairs = itertools.combinations if self.symmetric else itertools.permutations
        for i, j in pairs(range(len(layers)), 2):
            table[i, j] = self.compare_states(layers[i], layers[j], mask)
            if self.symmetric:
                table[j, i] = table[i, j]
        return table


class SampleMetric(SimilarityMetric):
    """A metric that is reduced from one value a sample, so that large activations can be compared piecewise."""

    @abstractmethod
    def per_sample(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> Tensor:
        """One value a sample, `[samples]`, of float32 tensors `[samples, seq, hidden]`."""

    def reduce(self, values: Tensor) -> float:
        """The similarity from the values of all samples; the mean unless overridden."""
        return float(values.double().mean())

    def most(self, values: Tensor, samples: int) -> float:
        """What `reduce` gives at most, of that many samples, where these are the values of the first of them.

        A value is never above 1, and `reduce` must not fall when one rises.
        """
        return self.reduce(torch.cat([values, values.new_ones(samples - len(values))]))

    def compare(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> float:
        """`reduce(per_sample(...))`."""
        return self.reduce(self.per_sample(reference, candidate, mask))

    def compare_states(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> float:
        """As `compare`, of tensors of any type, some samples at a time."""
        values = [
            self.per_sample(reference[rows].float(), candidate[rows].float(), None if mask is None else mask[rows])
            for rows in pieces_of(reference)
        ]
        return self.reduce(torch.cat(values))


class TokenMetric(SampleMetric):
    """A metric whose value of a sample is the mean over its tokens, so that samples too can be compared piecewise."""

    @abstractmethod
    def per_token(self, reference: Tensor, candidate: Tensor) -> Tensor:
        """One value a token, `[...]`, of float32 tensors `[..., hidden]` (`vocabulary` last for logits)."""

    def per_sample(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> Tensor:
        """The mean of `per_token` over the tokens of each sample, padding left out."""
        return token_mean(self.per_token(reference, candidate), mask)


def token_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over tokens of `[samples, seq]`, `[samples]`, padding left out."""
    if mask is None:
        return values.mean(dim=1)
    # Padding may hold anything, and zero times infinity is no zero.
    return values.where(mask, 0).sum(dim=1) / mask.sum(dim=1)
