"""The trials of an allocation: each window and cut alone, then the cheapest sets of them as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from swm.builtin.stages.allocation_search import Removal, cheapest_removals
from swm.builtin.stages.channel_cuts import CutSize
from swm.costs.goal import Goal
from swm.depth.engine import DepthEngine
from swm.depth.program import ChannelCut, SubBlock
from swm.errors import BudgetError
from swm.model.windows import Window


@dataclass(frozen=True)
class ChosenRemoval:
    """The removal that was chosen, its `cost` measured as a whole, and its rank by the sum of costs, from 0."""

    removal: Removal
    cost: float
    rank: int


def choose_removal(
    engine: DepthEngine,
    windows: Sequence[Window],
    cuts: Mapping[ChannelCut, CutSize],
    goal: Goal,
    candidates: int,
    blocks: Sequence[SubBlock] = (),
    repaired: Callable[[Removal], float] | None = None,
) -> ChosenRemoval:
    """The removal that raises the next-token loss least, among the sets with the least sums of costs.

    Args:
        engine: Measures the loss; all of the `cuts` were offered to it.
        windows: The windows that may be merged.
        cuts: The cuts that may be made.
        goal: How much goes.
        candidates: How many of the sets are measured as a whole.
        blocks: The sub-blocks that may go, each instead of a cut or window of its layer.
        repaired: Gives the loss of a set after its repair; without it, sets are measured as they are.

    Raises:
        BudgetError: No set comes near the goal.
    """
    before, layers = engine.loss([]), goal.cost.layers
    saved = {one: goal.cost.block(one.position, one.part, one.parameters) for one in blocks}
    options = [Removal((w,), (), sum(layers[w.first + 1 : w.last + 1]), engine.loss([w]) - before) for w in windows]
    options += [Removal((), (cut,), size.saved, engine.loss([], [cut]) - before) for cut, size in cuts.items()]
    options += [
        Removal((), (), size, engine.loss([], [], [one]) - before, (one,)) for one, size in saved.items() if size > 0
    ]
    cheapest = cheapest_removals(options, len(layers), goal.amount, candidates, goal.least)
    if not cheapest:
        kinds = "windows, sub-blocks and channels" if blocks else "windows and channels"
        about = "at least" if goal.least else "about"
        raise BudgetError(f"no set of {kinds} removes {about} {goal.unit.written(goal.amount)}")
    measured = repaired or (lambda removal: engine.loss(removal.windows, removal.cuts, removal.gone))
    costs = [measured(removal) - before for removal in cheapest]
    rank = min(range(len(costs)), key=lambda i: costs[i])
    return ChosenRemoval(cheapest[rank], costs[rank], rank)
