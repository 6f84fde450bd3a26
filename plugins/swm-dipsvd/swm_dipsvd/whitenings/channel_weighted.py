"""DipSVD's channel-weighted whitening."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from swm_dipsvd.moments import Moments, Need
from swm_dipsvd.whitener import Whitener, shifted
from swm_dipsvd.whitening import Whitening


@final
@dataclass(frozen=True)
class ChannelWeighted(Whitening):
    """DipSVD: `S = U diag(√Σ)` of `G D`, with `G = xᵀ x` and the most important input channels weighted in `D`.

    `D` is diagonal: `weight` for the `share` of channels with the largest `‖G_:j‖`, else 1. `mode: column` takes `G D`
    as the released code does, so that `S Sᵀ = (G D² G)^½`; `mode: symmetric` takes `D G D` as the paper does, and that
    is `S Sᵀ`. With `weight: 1` both give the factors of `cholesky`. Source: arXiv 2506.20353 and its released code.
    """

    name: ClassVar[str] = "channel-weighted"
    paper: ClassVar[str] = "https://arxiv.org/abs/2506.20353"
    is_default: ClassVar[bool] = True

    mode: Literal["column", "symmetric"] = "column"
    share: Annotated[float, Field(ge=0, le=1)] = 0.03
    weight: Annotated[float, Field(gt=0)] = 30.0

    def needs(self) -> frozenset[Need]:
        return frozenset({"gram"})

    def whitener(self, moments: Moments) -> Whitener:
        assert moments.gram is not None
        weights = self.weights(moments.gram)
        try:
            return self._root(moments.gram, weights)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            root = self._root(shifted(moments.gram), weights)
            return Whitener(root.matrix, ("gram_shifted", *root.repairs))

    def weights(self, gram: Tensor) -> Tensor:
        """The diagonal of D `[n]`; of channels with equal norms the lower one counts as more important."""
        norms = torch.linalg.vector_norm(gram, dim=0)
        top = torch.sort(norms, descending=True, stable=True).indices[: int(len(norms) * self.share)]
        weights = torch.ones_like(norms)
        weights[top] = self.weight
        return weights

    def _root(self, gram: Tensor, weights: Tensor) -> Whitener:
        weighted = gram * weights
        if self.mode == "symmetric":
            weighted = weights[:, None] * weighted
        vectors, values, _ = torch.linalg.svd(weighted)
        return Whitener(vectors * values.sqrt()).invertible(values[-1])
