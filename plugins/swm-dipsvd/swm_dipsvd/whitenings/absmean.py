"""ASVD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from pydantic import Field

from swm_dipsvd.moments import Moments, Need
from swm_dipsvd.whitener import SHIFT, Whitener
from swm_dipsvd.whitening import Whitening


@final
@dataclass(frozen=True)
class AbsMean(Whitening):
    """ASVD: `S = diag(mean |x_j|^alpha + 1e-6)`, so that channels with large inputs keep more of their weight.

    Source: Yuan et al., arXiv 2312.05821, section 3.2, and its released code (`abs_mean`, alpha 0.5).
    """

    name: ClassVar[str] = "absmean"
    paper: ClassVar[str] = "https://arxiv.org/abs/2312.05821"

    alpha: Annotated[float, Field(ge=0)] = 0.5

    def needs(self) -> frozenset[Need]:
        return frozenset({"mean_absolute"})

    def whitener(self, moments: Moments) -> Whitener:
        assert moments.mean_absolute is not None
        return Whitener(moments.mean_absolute**self.alpha + SHIFT)
