"""The matrix S by which a weight is multiplied before its SVD."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

Repair = Literal["gram_shifted", "scale_shifted", "svd_by_eigenvectors"]
SHIFT = 1e-6


@dataclass(frozen=True)
class Whitener:
    """`matrix` is S in float64, `[n, n]` or its diagonal `[n]`; `repairs` names what had to be done to get it.

    `S Sᵀ` is the metric: of all matrices of a rank, the factors come nearest to W in `tr((W - W') S Sᵀ (W - W')ᵀ)`.
    """

    matrix: Tensor
    repairs: tuple[Repair, ...] = ()

    def times(self, weight: Tensor) -> Tensor:
        """`W S` `[m, n]`."""
        matrix = self.matrix.to(weight.device)
        return weight * matrix if matrix.dim() == 1 else weight @ matrix

    def invertible(self, smallest: Tensor) -> Whitener:
        """Itself, or `S + 1e-6 I` where `smallest`, the least of its diagonal or singular values, is not positive.

        Source: the released SVD-LLM and DipSVD codes.
        """
        if smallest > 0:
            return self
        one = torch.full_like(self.matrix[0], SHIFT) if self.matrix.dim() == 2 else self.matrix.new_tensor(SHIFT)
        matrix = self.matrix + (torch.diag(one) if self.matrix.dim() == 2 else one)
        return replace(self, matrix=matrix, repairs=(*self.repairs, "scale_shifted"))


def shifted(gram: Tensor) -> Tensor:
    """`G + (1e-6 - λ_min) I` for a symmetric matrix whose least eigenvalue rounding has made negative.

    Where 1e-6 is less than rounding makes of the largest eigenvalue, that much stands in its place, so that the result
    is positive definite in float64. Source: the released SVD-LLM and DipSVD codes.
    """
    eigenvalues = torch.linalg.eigvalsh(gram)
    rounding = float(eigenvalues[-1]) * len(gram) * torch.finfo(gram.dtype).eps
    return gram + (max(SHIFT, rounding) - min(float(eigenvalues[0]), 0.0)) * torch.eye(
        len(gram), dtype=gram.dtype, device=gram.device
    )
