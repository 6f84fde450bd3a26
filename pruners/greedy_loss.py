"""SLEB: the least harmful layer, again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from pydantic import Field

from swm.interfaces.depth import DepthContext, DepthProposal, DepthPruner, required_target
from swm.model.windows import windows_without
from swm.pruners.ranking import for_what_goes, ranked, removal_proposal, unprotected_layers


@final
@dataclass(frozen=True)
class GreedyLoss(DepthPruner):
    """Removes one layer at a time: the one whose removal leaves the lowest next-token loss, all scored anew each time.

    Of attentions and MLPs that a number of parameters is asked of, the one whose loss rises least for each parameter.
    The first and the last layer are spared, as in the released code. Source: Song et al., arXiv 2402.09025, section 4.
    """

    name: ClassVar[str] = "greedy-loss"
    paper: ClassVar[str] = "https://arxiv.org/abs/2402.09025"

    protect_first: Annotated[int, Field(ge=0)] = 1
    protect_last: Annotated[int, Field(ge=0)] = 1

    asks_losses: ClassVar[bool] = True

    def effort(self, layers: int, target: int | None) -> int | None:
        alive = len(unprotected_layers(layers, self.protect_first, self.protect_last))
        return sum(alive - i for i in range(target or 0))

    def propose(self, context: DepthContext) -> DepthProposal:
        removed: list[int] = []
        losses: list[float] = []
        least = 0.0 if context.sizes is None else context.loss([])
        for _ in range(required_target(context)):
            alive = unprotected_layers(context.layers, self.protect_first, self.protect_last)
            scores = {
                i: context.loss(windows_without([*removed, i], context.layers))
                for i in alive
                if i not in removed and context.removable([*removed, i])
            }
            if not scores:
                break
            removed.append(ranked(for_what_goes(context, scores, least))[0])
            least = scores[removed[-1]]
            losses.append(least)
            context.commit(windows_without(removed, context.layers))
        proposal = removal_proposal(context.layers, removed)
        return DepthProposal(proposal.windows, {**proposal.facts, "losses": losses})
