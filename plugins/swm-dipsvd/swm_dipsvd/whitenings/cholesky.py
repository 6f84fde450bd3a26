"""SVD-LLM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch

from swm_dipsvd.moments import Moments, Need
from swm_dipsvd.whitener import Whitener, shifted
from swm_dipsvd.whitening import Whitening


@final
@dataclass(frozen=True)
class Cholesky(Whitening):
    """SVD-LLM: `S` is the lower Cholesky factor of `G = xᵀ x`, so that the error of the outputs is the least possible.

    A Gram matrix that is not positive definite becomes `G + (1e-6 - λ_min) I`. Source: Wang et al., arXiv 2403.07378,
    section 3.1, and its released code.
    """

    name: ClassVar[str] = "cholesky"
    paper: ClassVar[str] = "https://arxiv.org/abs/2403.07378"

    def needs(self) -> frozenset[Need]:
        return frozenset({"gram"})

    def whitener(self, moments: Moments) -> Whitener:
        assert moments.gram is not None
        lower, failed = torch.linalg.cholesky_ex(moments.gram)
        if not failed:
            return Whitener(lower)
        return Whitener(torch.linalg.cholesky(shifted(moments.gram)), ("gram_shifted",))
