"""No whitening: plain SVD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch

from swm_dipsvd.moments import Moments
from swm_dipsvd.whitener import Whitener
from swm_dipsvd.whitening import Whitening


@final
@dataclass(frozen=True)
class NoWhitening(Whitening):
    """`S = I`: the factors come nearest to the weight itself, in the Frobenius norm; needs no text."""

    name: ClassVar[str] = "none"

    def whitener(self, moments: Moments) -> Whitener:
        return Whitener(torch.ones(moments.inputs, dtype=torch.float64))
