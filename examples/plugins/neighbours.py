"""A similarity in one file: do the tokens keep their neighbours?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

import swm

swm_api = 1


@dataclass(frozen=True)
class Neighbours(swm.SampleMetric):
    """The share of each token's nearest tokens (by cosine, in its sample) that both activations agree on.

    Blind to scale and rotation, and to whatever is far away. Source: Huh et al., arXiv 2405.07987.
    """

    name: ClassVar[str] = "neighbours"
    symmetric: ClassVar[bool] = True
    neighbours: Annotated[int, Field(ge=1)] = 4

    def per_sample(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> Tensor:
        real = reference.new_ones(reference.shape[:2]).bool() if mask is None else mask
        mine, other = (self._nearest(states, real) for states in (reference, candidate))
        lost = (mine & ~other).sum(dim=(1, 2))
        return 1 - lost / mine.sum(dim=(1, 2)).clamp_min(1)

    def _nearest(self, states: Tensor, real: Tensor) -> Tensor:
        """Who is near to whom, `[samples, seq, seq]`; padding and the token itself never are."""
        points = F.normalize(states.double().masked_fill(~real[..., None], 0), dim=-1)
        pairs = (real[:, :, None] & real[:, None, :]).diagonal_scatter(real & False, dim1=1, dim2=2)
        closeness = (points @ points.mT).masked_fill(~pairs, -float("inf"))
        chosen = closeness.topk(min(self.neighbours, closeness.shape[-1]), dim=-1).indices
        return pairs & pairs.new_zeros(pairs.shape).scatter(-1, chosen, True)


@swm.hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    register(Neighbours)
