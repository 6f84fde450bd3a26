"""The two factors of a projection, and how they are made."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from swm_dipsvd.whitener import Repair, Whitener


@dataclass(frozen=True)
class Factors:
    """`expand` `[m, k]` times `reduce` `[k, n]` stands for a weight `[m, n]`; the first ranks are the best ones."""

    reduce: Tensor
    expand: Tensor
    repairs: tuple[Repair, ...] = ()

    def truncated(self, rank: int) -> dict[str, Tensor]:
        """The factors of the best `rank` ranks, by name."""
        return {"reduce": self.reduce[:rank].contiguous(), "expand": self.expand[:, :rank].contiguous()}

    def product(self, rank: int) -> Tensor:
        """The weight `[m, n]` of that rank."""
        return self.expand[:, :rank] @ self.reduce[:rank]


@torch.no_grad()
def factorise(weight: Tensor, whitener: Whitener, ranks: int, dtype: torch.dtype | None = None) -> Factors:
    """The best `ranks` ranks of a weight `[m, n]` (float64) by the whitener's norm.

    With `W S = U diag(σ) Vᵀ` they are the rows of `Uᵀ W` and the columns of U, each pair brought to the same length so
    that half precision holds both; without whitening these are `√σ Vᵀ` and `U √σ`, as in the released codes.
    """
    target = whitener.times(weight)
    repairs = whitener.repairs
    try:
        vectors = torch.linalg.svd(target, full_matrices=False)[0]
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        vectors = torch.linalg.eigh(target @ target.T)[1].flip(1)
        repairs = (*repairs, "svd_by_eigenvectors")
    vectors = vectors[:, :ranks]
    rows = vectors.T @ weight
    length = torch.linalg.vector_norm(rows, dim=1).sqrt().clamp_min(torch.finfo(rows.dtype).tiny)
    reduce, expand = rows / length[:, None], vectors * length
    return Factors(reduce.to(dtype).contiguous(), expand.to(dtype).contiguous(), repairs)
