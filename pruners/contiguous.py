"""One contiguous run of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from swm.interfaces.depth import DepthContext, DepthProposal, DepthPruner, required_target
from swm.pruners.ranking import ranked, removal_proposal, unprotected_layers


@final
@dataclass(frozen=True)
class Contiguous(DepthPruner):
    """Removes the run of adjacent layers over which the hidden states change least.

    The paper's similarity is the angular one of the last token: one token of each sample, so a few samples say little.
    Source: Gromov et al. (the unreasonable ineffectiveness of the deeper layers), arXiv 2403.17887, section 3.2.
    """

    name: ClassVar[str] = "contiguous"
    paper: ClassVar[str] = "https://arxiv.org/abs/2403.17887"
    only_layers: ClassVar[str] = "it looks for one run of whole layers"
    default_similarity: ClassVar[str | Mapping[str, Any]] = {"name": "angular", "tokens": "last"}
    compares_layers: ClassVar[bool] = True

    protect_first: Annotated[int, Field(ge=0)] = 0
    protect_last: Annotated[int, Field(ge=0)] = 0

    def propose(self, context: DepthContext) -> DepthProposal:
        count = required_target(context)
        starts = unprotected_layers(context.layers, self.protect_first, self.protect_last + count - 1)
        scores = {i: 1 - context.compare(i, i + count) for i in starts}
        runs = (range(start, start + count) for start in ranked(scores))
        removed: Sequence[int] = next(filter(context.removable, runs), ())
        return removal_proposal(context.layers, removed, scores)
