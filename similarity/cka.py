"""Centred kernel alignment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from swm.interfaces.similarity import SimilarityMetric


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
    paper: ClassVar[str] = "https://arxiv.org/abs/1905.00414"

    kernel: Literal["linear", "rbf"] = "linear"
    estimator: Literal["biased", "unbiased"] = "unbiased"
    tokens: Literal["each", "flattened", "mean"] = "each"
    bandwidth: Annotated[float, Field(gt=0)] = 1.0

    def check(self, samples: int, seq_len: int) -> None:
        points = samples * seq_len if self.tokens == "each" else samples
        if points < 4:
            raise ValueError(f"cka with tokens: {self.tokens} needs 4 points, the calibration text gives {points}")

    def compare(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> float:
        return float(self.pairwise([reference, candidate], mask)[0, 1])

    def pairwise(self, layers: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """One centred Gram matrix a layer; all pairs are then one matrix product."""
        grams = torch.stack([self._centred_gram(layer, mask).flatten() for layer in layers])
        hsic = grams @ grams.T
        scale = hsic.diagonal().clamp_min(0).sqrt()
        return hsic / (scale[:, None] * scale[None, :])

    def _centred_gram(self, layer: Tensor, mask: Tensor | None) -> Tensor:
        points = self._points(layer, mask).double()
        n = len(points)
        points = points - points.mean(dim=0)
        gram = points @ points.T if self.kernel == "linear" else self._rbf(points)
        if self.estimator == "biased":
            return gram - gram.mean(dim=0) - gram.mean(dim=1, keepdim=True) + gram.mean()
        # U-centring (Székely and Rizzo 2014): the inner product of two such matrices is the unbiased HSIC.
        gram = gram - gram.diagonal().diag()
        rows = gram.sum(dim=0)
        gram = gram - (rows[:, None] + rows[None, :]) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
        return gram - gram.diagonal().diag()

    def _points(self, layer: Tensor, mask: Tensor | None) -> Tensor:
        if self.tokens == "each":
            return layer.flatten(0, 1) if mask is None else layer[mask.bool()]
        if mask is not None:
            layer = layer.where(mask[..., None], 0)
        if self.tokens == "flattened":
            return layer.flatten(1)
        count = layer.shape[1] if mask is None else mask.sum(dim=1, keepdim=True)
        return layer.sum(dim=1) / count

    def _rbf(self, points: Tensor) -> Tensor:
        squared = torch.cdist(points, points).square()
        off_diagonal = squared[~torch.eye(len(points), dtype=torch.bool, device=squared.device)]
        return torch.exp(-squared / (2 * self.bandwidth**2 * off_diagonal.median()))
