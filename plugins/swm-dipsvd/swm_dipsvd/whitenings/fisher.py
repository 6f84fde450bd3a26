"""FWSVD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from swm_dipsvd.moments import Moments, Need
from swm_dipsvd.whitener import Whitener
from swm_dipsvd.whitening import Whitening


@final
@dataclass(frozen=True)
class Fisher(Whitening):
    """FWSVD: `S = diag(√(mean g²))`, the Fisher information of an input channel over its outputs and all samples.

    Brought to a mean of one, which changes no factor; a channel without any gradient gets 1e-6. Source: Hsu et al.,
    arXiv 2207.00112, section 4.
    """

    name: ClassVar[str] = "fisher"
    paper: ClassVar[str] = "https://arxiv.org/abs/2207.00112"

    def needs(self) -> frozenset[Need]:
        return frozenset({"squared_gradients"})

    def whitener(self, moments: Moments) -> Whitener:
        assert moments.squared_gradients is not None
        scale = moments.squared_gradients.sqrt()
        average = scale.mean()
        scale = scale / average if average > 0 else scale
        return Whitener(scale).invertible(scale.min())
