"""Minitron's activation importance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from swm.interfaces.width import CHANNELS, Need, UnitGroup, WidthPruner
from swm.model.units import Part


@final
@dataclass(frozen=True)
class Activation(WidthPruner):
    """The mean absolute activation of a channel over all tokens, summed over a unit's channels.

    Source: Muralidharan et al. (Minitron), arXiv 2407.14679, section 2.2.
    """

    name: ClassVar[str] = "activation"
    paper: ClassVar[str] = "https://arxiv.org/abs/2407.14679"
    parts: ClassVar[frozenset[Part]] = CHANNELS | {"expert_channels"}

    def needs(self) -> frozenset[Need]:
        return frozenset({"inputs"})

    def score(self, group: UnitGroup) -> Tensor:
        return group.per_unit(group.required_inputs.mean_absolute)
