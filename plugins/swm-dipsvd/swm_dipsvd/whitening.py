"""Whitening: by which norm the factors of a projection come as near to it as their rank allows."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from swm import Strategy
from swm_dipsvd.moments import Moments, Need
from swm_dipsvd.whitener import Whitener


class Whitening(Strategy):
    """Makes the matrix S of a projection: the SVD is that of `W S`, and the factors are those of its best part.

    With `W S = U diag(σ) Vᵀ` the papers' product `U_k diag(σ_k) V_kᵀ S⁻¹` is `U_k U_kᵀ W`, which needs no inverse.
    """

    kind: ClassVar[str] = "whitening"

    @abstractmethod
    def whitener(self, moments: Moments) -> Whitener:
        """S of a projection `[m, n]`, in float64. Repairs of singular matrices must be named in it."""

    def needs(self) -> frozenset[Need]:
        """What of the calibration text S is made from; nothing by default."""
        return frozenset()
