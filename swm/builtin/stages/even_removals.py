"""The removals of an allocation that take the same share of the channels of every layer that is not merged."""

from __future__ import annotations

import math
from collections.abc import Mapping

from swm.builtin.stages.allocation_search import Removal
from swm.builtin.stages.allocation_trials import EvenRemoval
from swm.builtin.stages.channel_cuts import even_cuts
from swm.builtin.stages.offered_cuts import OfferedCuts
from swm.costs.goal import Goal
from swm.model.view import ModelView


def even_removals(
    view: ModelView, goal: Goal, offered: OfferedCuts, rounding: int | None, highest: float
) -> EvenRemoval:
    """What adds such cuts to a removal; it makes none where a layer would lose more than the `highest` share.

    Args:
        view: The model.
        goal: How much goes.
        offered: Gets the cuts, and says which channels stay.
        rounding: What stays of a layer's channels is a multiple of it.
        highest: The largest share of a layer's channels that may go.
    """

    def make(others: Removal, costs: Mapping[int, float]) -> Removal | None:
        merged = {position for window in others.windows for position in range(window.first, window.last + 1)}
        merged |= {one.position for one in others.gone if one.part == "mlp"}
        left = {position: cost for position, cost in costs.items() if position not in merged}
        gone = sum(sum(goal.cost.layers[window.first + 1 : window.last + 1]) for window in others.windows)
        gone += sum(goal.cost.block(one.position, one.part, one.parameters) for one in others.gone)
        cuts = even_cuts(view, left, goal.amount - gone, rounding, goal.cost)
        if not cuts or max(share for _, share in cuts) > highest:
            return None
        offered.offer(cuts)
        saved = gone + sum(size.saved for size in cuts.values())
        # What the cuts cost alone is not measured: a removal of this sort is not found by a sum.
        return Removal(others.windows, tuple(cuts), saved, math.nan, others.gone)

    return make
