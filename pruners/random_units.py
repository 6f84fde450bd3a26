"""The width baseline of no choice at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from swm.interfaces.width import CHANNELS, UnitGroup, WidthPruner
from swm.model.units import Part


@final
@dataclass(frozen=True)
class RandomUnits(WidthPruner):
    """Scores drawn with `seed`, another draw for every layer, part and expert."""

    name: ClassVar[str] = "random"
    is_baseline: ClassVar[bool] = True
    parts: ClassVar[frozenset[Part]] = CHANNELS | {"experts", "expert_channels"}

    seed: Annotated[int, Field(ge=0)] = 0

    def score(self, group: UnitGroup) -> Tensor:
        places = {"attention": 0, "mlp": 1, "queries": 500_000, "experts": 250_000, "expert_channels": 750_000}
        part = places[group.part] + 400 * (group.expert or 0)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + 2 * group.layer + part)
        return torch.rand(group.units, generator=generator)
