"""The size of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from swm.interfaces.width import CHANNELS, UnitGroup, WidthPruner
from swm.model.units import Part


@final
@dataclass(frozen=True)
class Magnitude(WidthPruner):
    """The L1 or L2 norm of all weights that belong to a unit. Needs no data.

    Source: the magnitude baselines of LLM-Pruner, arXiv 2305.11627.
    """

    name: ClassVar[str] = "magnitude"
    is_baseline: ClassVar[bool] = True
    parts: ClassVar[frozenset[Part]] = CHANNELS | {"experts", "expert_channels"}

    norm: Literal["l1", "l2"] = "l2"

    def score(self, group: UnitGroup) -> Tensor:
        power = 1 if self.norm == "l1" else 2
        per_weight = [group.per_unit(w.weight.float().abs().pow(power).sum(dim=1)) for w in group.weights]
        return torch.stack(per_weight).sum(dim=0).pow(1 / power)
