"""Wanda, structured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from swm.interfaces.width import CHANNELS, Need, UnitGroup, WidthPruner
from swm.model.units import Part


@final
@dataclass(frozen=True)
class Wanda(WidthPruner):
    """Wanda-sp: `mean over outputs of |W_ij|, times the L2 norm of input j`, of the projection that reads the channels.

    A unit counts the sum over its channels. Sources: Sun et al., arXiv 2306.11695, section 3, made structured in FLAP,
    arXiv 2312.11983, section 4.1.
    """

    name: ClassVar[str] = "wanda"
    paper: ClassVar[str] = "https://arxiv.org/abs/2306.11695"
    parts: ClassVar[frozenset[Part]] = CHANNELS | {"expert_channels"}

    def needs(self) -> frozenset[Need]:
        return frozenset({"inputs"})

    def score(self, group: UnitGroup) -> Tensor:
        inputs = group.required_inputs
        norms = (inputs.mean_square * inputs.tokens).sqrt()
        return group.per_unit(group.reader.weight.float().abs().mean(dim=1) * norms.to(group.reader.weight.device))
