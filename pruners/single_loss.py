"""Shortened LLaMA: rank layers by the loss without each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from pydantic import Field

from swm.interfaces.depth import DepthContext, DepthProposal, DepthPruner, required_target
from swm.model.windows import windows_without
from swm.pruners.ranking import first_removable, for_what_goes, ranked, removal_proposal, unprotected_layers


@final
@dataclass(frozen=True)
class SingleLoss(DepthPruner):
    """Removes the layers without which, one at a time, the next-token loss stays lowest; ranked once.

    The first four and the last two layers are spared, as the paper does. Of attentions and MLPs that a number of
    parameters is asked of, those go whose loss is lowest for each parameter.
    Source: Kim et al. (Shortened LLaMA), arXiv 2402.02834, section 2.2, criterion PPL.
    """

    name: ClassVar[str] = "single-loss"
    paper: ClassVar[str] = "https://arxiv.org/abs/2402.02834"

    protect_first: Annotated[int, Field(ge=0)] = 4
    protect_last: Annotated[int, Field(ge=0)] = 2

    asks_losses: ClassVar[bool] = True

    def effort(self, layers: int, target: int | None) -> int | None:
        return len(unprotected_layers(layers, self.protect_first, self.protect_last))

    def propose(self, context: DepthContext) -> DepthProposal:
        layers = unprotected_layers(context.layers, self.protect_first, self.protect_last)
        scores = {i: context.loss(windows_without([i], context.layers)) for i in layers if context.removable([i])}
        least = 0.0 if context.sizes is None else context.loss([])
        order = ranked(for_what_goes(context, scores, least))
        removed = first_removable(context, order, required_target(context))
        return removal_proposal(context.layers, removed, scores)
