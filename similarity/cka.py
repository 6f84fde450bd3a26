"""Centred kernel alignment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from swm.interfaces.similarity import SimilarityMetric
from swm.measure.points import Points, median_distance, squared_distances
from swm.memory.pieces import pieces, pieces_of

# The rows of all layers' Gram matrices that are made at a time take this much memory.
BLOCK_BYTES = 256 * 2**20


@final
@dataclass(frozen=True)
class CKA(SimilarityMetric):
    """`HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))` with kernels K, L over the compared points.

    `tokens: each` makes every token a point; `flattened` makes one point of a whole sample, as the released SWM
    analysis does (few points, many features: the biased estimator is then far too high); `mean` averages a sample's
    tokens. `estimator: unbiased` is that of Song et al. (JMLR 2012, equation 5), `biased` that of Kornblith et al.
    The `rbf` kernel's squared width is `bandwidth` squared times the median squared distance.

    Source: Kornblith et al., arXiv 1905.00414, sections 2 and 3; used in arXiv 2502.19159, Figure 1.
    """

    name: ClassVar[str] = "cka"
    symmetric: ClassVar[bool] = True
    paper: ClassVar[str] = "https://arxiv.org/abs/1905.00414"

    kernel: Literal["linear", "rbf"] = "linear"
    estimator: Literal["biased", "unbiased"] = "unbiased"
    tokens: Literal["each", "flattened", "mean"] = "each"
    bandwidth: Annotated[float, Field(gt=0)] = 1.0

    def check(self, samples: int, seq_len: int) -> None:
        points = samples * seq_len if self.tokens == "each" else samples
        if points < 4:
            raise ValueError(f"cka with tokens: {self.tokens} needs 4 points, the calibration text gives {points}")

    def working_bytes(self) -> int:
        # The blocks of all layers, all of them in one, and one while it is made.
        return 3 * BLOCK_BYTES

    def compare(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> float:
        return float(self.pairwise([reference, candidate], mask)[0, 1])

    def compare_states(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> float:
        return self.compare(reference, candidate, mask)

    def pairwise(self, layers: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """One centred Gram matrix a layer; all pairs are then one matrix product.

        Whole, these matrices would fill the memory (4,096 tokens and 32 layers: 4 GB), so some rows of all of them are
        made at a time.
        """
        points = [Points.of(self._points(layer, mask)) for layer in layers]
        prepared = [self._prepare(layer) for layer in points]
        n = len(points[0].values)
        hsic = torch.zeros(len(points), len(points), dtype=torch.float64, device=points[0].mean.device)
        size = max(1, BLOCK_BYTES // (8 * n * len(points)))
        for start in range(0, n, size):
            rows = torch.arange(start, min(start + size, n), device=hsic.device)
            block = torch.stack(
                [self._centred(layer, rows, *sums).flatten() for layer, sums in zip(points, prepared, strict=True)]
            )
            hsic += block @ block.T
        scale = hsic.diagonal().clamp_min(0).sqrt()
        return hsic / (scale[:, None] * scale[None, :])

    def _prepare(self, points: Points) -> tuple[Tensor, float]:
        """The sums of the Gram matrix's rows, and the kernel's width."""
        if self.kernel == "linear":
            parts = pieces_of(points.values)
            total = torch.zeros_like(points.mean)
            for rows in parts:
                total += points.rows(rows).sum(dim=0)
            sums = torch.cat([points.rows(rows) @ total for rows in parts])
            if self.estimator == "biased":
                return sums, 1.0
            return sums - torch.cat([points.rows(rows).square().sum(dim=1) for rows in parts]), 1.0
        width = 2 * self.bandwidth**2 * median_distance(points)
        every = torch.arange(len(points.values), device=points.mean.device)
        blocks = (every[rows] for rows in pieces(len(every), len(every)))
        return torch.cat([self._gram(points, rows, width).sum(dim=1) for rows in blocks]), width

    def _gram(self, points: Points, rows: Tensor, width: float) -> Tensor:
        """Some rows of the Gram matrix; the unbiased estimator's has no diagonal."""
        own, others = points.rows(rows), pieces_of(points.values)
        if self.kernel == "linear":
            gram = torch.cat([own @ points.rows(columns).T for columns in others], dim=1)
        else:
            gram = torch.exp(-squared_distances(points, rows) / width)
        return gram if self.estimator == "biased" else _without_diagonal(gram, rows)

    def _centred(self, points: Points, rows: Tensor, sums: Tensor, width: float) -> Tensor:
        """Some rows of the centred Gram matrix.

        Args:
            points: The compared points.
            rows: The numbers of the rows.
            sums: The sum of each row of the Gram matrix, `[points]`.
            width: The kernel's width.
        """
        n, gram = len(points.values), self._gram(points, rows, width)
        if self.estimator == "biased":
            return gram - (sums[rows, None] + sums) / n + sums.sum() / n**2
        # U-centring (Székely and Rizzo 2014): the inner product of two such matrices is the unbiased HSIC.
        gram = gram - (sums[rows, None] + sums) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
        return _without_diagonal(gram, rows)

    def _points(self, layer: Tensor, mask: Tensor | None) -> Tensor:
        if self.tokens == "each":
            return layer.flatten(0, 1) if mask is None else layer[mask.bool()]
        if mask is not None:
            layer = layer.where(mask[..., None], 0)
        if self.tokens == "flattened":
            return layer.flatten(1)
        count = layer.shape[1] if mask is None else mask.sum(dim=1, keepdim=True)
        return layer.sum(dim=1, dtype=torch.float64) / count


def _without_diagonal(gram: Tensor, rows: Tensor) -> Tensor:
    """Some rows of a square matrix with zeros where the diagonal was."""
    return gram.scatter(1, rows[:, None], 0.0)
