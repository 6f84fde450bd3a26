"""The trials of an allocation: each window and cut alone, then the cheapest sets of them as a whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from swm.builtin.stages.allocation_search import Removal, cheapest_removals
from swm.builtin.stages.channel_cuts import CutSize
from swm.costs.goal import Goal
from swm.depth.engine import DepthEngine
from swm.depth.program import ChannelCut, SubBlock
from swm.errors import BudgetError
from swm.model.windows import Window

# A sum leaves out what removals cost together. What goes without a repair costs the most with others: sets are also
# sought in which sub-blocks count so many times, and in which none of them goes.
FACTORS = (1.0, 2.0, 4.0, math.inf)
# Sets with the same share of every layer are measured beside those of the search: with no window, with those of the
# cheapest set, and with the windows that would remove so much of the goal.
SHARES_OF_WINDOWS = (0.5, 0.25)
EVEN_SETS = 2 + len(SHARES_OF_WINDOWS)

EvenRemoval: TypeAlias = Callable[[Sequence[Window], Mapping[int, float]], Removal | None]
"""Windows, and what cuts cost by position: the removal that takes the rest of the goal evenly from other layers."""


@dataclass(frozen=True)
class ChosenRemoval:
    """The removal that was chosen, its `cost` measured as a whole, and its place among those measured, from 0.

    `even` is whether it is one that takes the same share of the channels of every layer.
    """

    removal: Removal
    cost: float
    place: int
    even: bool


@dataclass(frozen=True)
class Choices:
    """What an allocation may choose from.

    `windows` may be merged, `cuts` made, and `blocks` go, each instead of a cut or window of its layer; all cuts were
    offered to the engine. `even` makes the removals that take the same share of every layer, and `repaired` gives the
    loss of a set after its repair; without it, sets are measured as they are.
    """

    windows: Sequence[Window]
    cuts: Mapping[ChannelCut, CutSize]
    blocks: Sequence[SubBlock] = ()
    even: EvenRemoval | None = None
    repaired: Callable[[Removal], float] | None = None


def choose_removal(engine: DepthEngine, choices: Choices, goal: Goal, candidates: int) -> ChosenRemoval:
    """The removal that raises the next-token loss least, among the sets that are worth measuring as a whole.

    Args:
        engine: Measures the loss.
        choices: What may go.
        goal: How much goes.
        candidates: How many of the sets are measured as a whole.

    Raises:
        BudgetError: No set comes near the goal.
    """
    before, layers = engine.loss([]), goal.cost.layers
    saved = {one: goal.cost.block(one.position, one.part, one.parameters) for one in choices.blocks}
    options = [
        Removal((w,), (), sum(layers[w.first + 1 : w.last + 1]), engine.loss([w]) - before) for w in choices.windows
    ]
    options += [Removal((), (cut,), size.saved, engine.loss([], [cut]) - before) for cut, size in choices.cuts.items()]
    options += [
        Removal((), (), size, engine.loss([], [], [one]) - before, (one,)) for one, size in saved.items() if size > 0
    ]
    cheapest = _cheapest(options, goal, candidates)
    even = [] if choices.even is None else _even(options, choices.even, cheapest, goal)
    # In turns, so that each sort is among few candidates too.
    sets = [one for turn in itertools.zip_longest(cheapest, even) for one in turn if one is not None][:candidates]
    if not sets:
        kinds = "windows, sub-blocks and channels" if choices.blocks else "windows and channels"
        about = "at least" if goal.least else "about"
        raise BudgetError(f"no set of {kinds} removes {about} {goal.unit.written(goal.amount)}")
    measured = choices.repaired or (lambda removal: engine.loss(removal.windows, removal.cuts, removal.gone))
    costs = [measured(removal) - before for removal in sets]
    place = min(range(len(costs)), key=lambda i: (not math.isfinite(costs[i]), costs[i]))
    return ChosenRemoval(sets[place], costs[place], place, sets[place] in even)


def _cheapest(options: Sequence[Removal], goal: Goal, count: int) -> list[Removal]:
    """Sets with small sums of costs: of each of the `FACTORS` in turns, the cheapest first.

    Args:
        options: One window, cut or sub-block each.
        goal: How much goes.
        count: How many sets are wanted.
    """
    of_factor: list[list[Removal]] = []
    layers = len(goal.cost.layers)
    for factor in FACTORS if any(option.gone for option in options) else FACTORS[:1]:
        counted = [replace(o, cost=o.cost * factor) if o.gone and o.cost > 0 else o for o in options]
        of_factor.append(cheapest_removals(counted, layers, goal.amount, count, goal.least))
    costs = {(o.windows, o.cuts, o.gone): o.cost for o in options}
    sets: list[Removal] = []
    for turn in itertools.zip_longest(*of_factor):
        for one in turn:
            whole = None if one is None else replace(one, cost=sum(costs[part] for part in _parts(one)))
            if whole is not None and whole not in sets:
                sets.append(whole)
    return sets[:count]


def _parts(removal: Removal) -> Iterator[tuple[tuple[Window, ...], tuple[ChannelCut, ...], tuple[SubBlock, ...]]]:
    """The options that a set is made of."""
    yield from (((window,), (), ()) for window in removal.windows)
    yield from (((), (cut,), ()) for cut in removal.cuts)
    yield from (((), (), (one,)) for one in removal.gone)


def _even(options: Sequence[Removal], even: EvenRemoval, cheapest: Sequence[Removal], goal: Goal) -> list[Removal]:
    """The removals that take the same share of the channels of every layer outside some windows.

    Args:
        options: One window, cut or sub-block each.
        even: Makes them.
        cheapest: The sets of the search, the cheapest first.
        goal: How much goes.
    """
    windows = [option for option in options if option.windows]
    costs: dict[int, float] = {}
    for position, cost in ((o.cuts[0][0], o.cost) for o in options if o.cuts):
        costs[position] = max(cost, costs.get(position, cost))
    merged: list[tuple[Window, ...]] = [(), *(one.windows for one in cheapest[:1])]
    for share in SHARES_OF_WINDOWS:
        sets = cheapest_removals(windows, len(goal.cost.layers), share * goal.amount, 1)
        merged += [one.windows for one in sets]
    made = (even(each, costs) for each in dict.fromkeys(merged))
    return [one for one in made if one is not None]
