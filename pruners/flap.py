"""FLAP's fluctuation metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from swm.interfaces.width import CHANNELS, Need, UnitGroup, WidthPruner
from swm.model.units import Part


@final
@dataclass(frozen=True)
class FLAP(WidthPruner):
    """WIFV: `variance over tokens of input j, times the squared norm of the weights that read it`.

    An attention unit counts the mean of its channels' squared metric, as the released code. With `scope: global` the
    scores of each layer and part are standardised (AL-AM). `bias: true` adds what the removed channels contribute on
    average to the bias of the reading projection, where the family's own class can hold one.

    Source: An et al., arXiv 2312.11983, sections 3.2 to 3.4, and the released `prune_flap`.
    """

    name: ClassVar[str] = "flap"
    paper: ClassVar[str] = "https://arxiv.org/abs/2312.11983"
    parts: ClassVar[frozenset[Part]] = CHANNELS | {"expert_channels"}
    standardised: ClassVar[bool] = True

    bias: bool = True

    def compensates(self) -> bool:
        return self.bias

    def needs(self) -> frozenset[Need]:
        return frozenset({"inputs"})

    def score(self, group: UnitGroup) -> Tensor:
        weight = group.reader.weight.float()
        metric = group.required_inputs.variance.to(weight.device) * weight.square().sum(dim=1)
        if group.part in ("mlp", "expert_channels"):
            return metric
        return group.per_unit(metric.square(), lambda channels: torch.mean(channels, dim=1))
