"""ShortGPT's block influence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from swm.interfaces.depth import DepthContext, DepthProposal, DepthPruner, required_target
from swm.pruners.ranking import first_removable, for_what_goes, ranked, removal_proposal, unprotected_layers


@final
@dataclass(frozen=True)
class BlockInfluence(DepthPruner):
    """Removes the layers that change their input least: `BI = 1 - similarity(input, output)`, ranked once.

    Of attentions and MLPs that a number of parameters is asked of, those go whose influence is lowest for each
    parameter. The paper's similarity is the cosine of each token. Source: Men et al., arXiv 2403.03853, section 3.2.
    """

    name: ClassVar[str] = "block-influence"
    paper: ClassVar[str] = "https://arxiv.org/abs/2403.03853"
    default_similarity: ClassVar[str | Mapping[str, Any]] = {"name": "cosine", "tokens": "each"}
    compares_layers: ClassVar[bool] = True

    protect_first: Annotated[int, Field(ge=0)] = 0
    protect_last: Annotated[int, Field(ge=0)] = 0

    def propose(self, context: DepthContext) -> DepthProposal:
        layers = unprotected_layers(context.layers, self.protect_first, self.protect_last)
        scores = {i: 1 - context.compare(i, i + 1) for i in layers}
        order = ranked(for_what_goes(context, scores, 0.0))
        removed = first_removable(context, order, required_target(context))
        return removal_proposal(context.layers, removed, scores)
