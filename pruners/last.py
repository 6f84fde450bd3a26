"""The baseline that everyone must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from pydantic import Field

from swm.interfaces.depth import DepthContext, DepthProposal, DepthPruner, required_target
from swm.pruners.ranking import first_removable, removal_proposal


@final
@dataclass(frozen=True)
class Last(DepthPruner):
    """Removes the last layers before the final one (`protect_last: 1`). Needs no data.

    With recovery it is the strong baseline of arXiv 2411.15558.
    """

    name: ClassVar[str] = "last"
    paper: ClassVar[str] = "https://arxiv.org/abs/2411.15558"
    is_baseline: ClassVar[bool] = True

    protect_last: Annotated[int, Field(ge=0)] = 1

    def propose(self, context: DepthContext) -> DepthProposal:
        downward = range(context.layers - self.protect_last)[::-1]
        return removal_proposal(context.layers, sorted(first_removable(context, downward, required_target(context))))
