"""The baseline of no choice at all."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from pydantic import Field

from swm.interfaces.depth import DepthContext, DepthProposal, DepthPruner, required_target
from swm.pruners.ranking import first_removable, removal_proposal, unprotected_layers


@final
@dataclass(frozen=True)
class Random(DepthPruner):
    """Removes layers drawn with the recipe's seed, or with `seed`. The first and the last layer are spared."""

    name: ClassVar[str] = "random"
    is_baseline: ClassVar[bool] = True

    seed: Annotated[int, Field(ge=0)] | None = None
    protect_first: Annotated[int, Field(ge=0)] = 1
    protect_last: Annotated[int, Field(ge=0)] = 1

    def propose(self, context: DepthContext) -> DepthProposal:
        chooser = random.Random(context.seed if self.seed is None else self.seed)
        layers = unprotected_layers(context.layers, self.protect_first, self.protect_last)
        count = required_target(context)
        drawn = chooser.sample(layers, count)
        others = [layer for layer in layers if layer not in drawn]
        chooser.shuffle(others)
        return removal_proposal(context.layers, sorted(first_removable(context, [*drawn, *others], count)))
