"""Similarity of next-token distributions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor

from swm.interfaces.similarity import TokenMetric


@final
@dataclass(frozen=True)
class KL(TokenMetric):
    """`exp(-mean KL(p || q))`, p the original model's next-token distribution and q the candidate's, in nats.

    The mean is over the tokens of each sample and then over samples; 1.0 means equal distributions.
    """

    name: ClassVar[str] = "kl"
    space: ClassVar[Literal["hidden", "normed", "logits"]] = "logits"

    def per_token(self, reference: Tensor, candidate: Tensor) -> Tensor:
        p, q = reference.log_softmax(dim=-1), candidate.log_softmax(dim=-1)
        return (p.exp() * (p - q)).sum(dim=-1).double()

    def reduce(self, values: Tensor) -> float:
        return math.exp(-float(values.double().mean()))
