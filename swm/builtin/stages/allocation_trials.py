"""The trials of an allocation: each window and cut alone, then the cheapest sets of them as a whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from swm.builtin.stages.allocation_search import Removal, cheapest_removals
from swm.builtin.stages.allocation_steps import KeptUnits
from swm.builtin.stages.channel_cuts import CutSize
from swm.costs.goal import Goal
from swm.depth.engine import DepthEngine
from swm.depth.program import ChannelCut, SubBlock
from swm.errors import BudgetError
from swm.model.windows import Window

# A sum leaves out what removals cost together. What goes without a repair costs the most with others: sets are also
# sought in which sub-blocks count so many times, and in which none of them goes.
FACTORS = (1.0, 2.0, 4.0, math.inf)
# Sets with the same share of every layer are measured beside those of the search: with cuts alone, with the windows and
# sub-blocks of the cheapest set, and with those that would remove so much of the goal.
SHARES_OF_WHOLE = (0.25, 0.5)

EvenRemoval: TypeAlias = Callable[[Removal, Mapping[int, float]], Removal | None]
"""A removal, and what cuts cost by position: that removal and even cuts that take the rest of the goal."""


@dataclass(frozen=True)
class Choices:
    """What an allocation may choose from.

    `windows` may be merged, `cuts` made, and `blocks` go, each instead of a cut or window of its layer; all cuts were
    offered to the engine. `even` makes the removals that take the same share of every layer.
    """

    windows: Sequence[Window]
    cuts: Mapping[ChannelCut, CutSize]
    blocks: Sequence[SubBlock] = ()
    even: EvenRemoval | None = None


class Searched(NamedTuple):
    """What a search found: sets to make and compare, the channels that each cut keeps, and how many trials it took."""

    sets: Sequence[Removal]
    units: KeptUnits
    trials: int


def promising_removals(engine: DepthEngine, choices: Choices, goal: Goal, count: int) -> list[Removal]:
    """The sets that are worth making as a whole, all different: the cheapest sums and even cuts, in turns.

    Args:
        engine: Measures the loss of each choice alone.
        choices: What may go.
        goal: How much goes.
        count: How many sets are wanted at most. The cost of one with even cuts is not a number.

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
    cheapest = _cheapest(options, goal, count)
    even = [] if choices.even is None else _even(options, choices.even, cheapest, goal)
    # In turns, so that each sort is among few too.
    sets = [one for turn in itertools.zip_longest(cheapest, even) for one in turn if one is not None]
    if not sets:
        kinds = "windows, sub-blocks and channels" if choices.blocks else "windows and channels"
        about = "at least" if goal.least else "about"
        raise BudgetError(f"no set of {kinds} removes {about} {goal.unit.written(goal.amount)}")
    return sets[:count]


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
    """The removals that take the same share of the channels of every layer that is left whole otherwise.

    Args:
        options: One window, cut or sub-block each.
        even: Makes them.
        cheapest: The sets of the search, the cheapest first.
        goal: How much goes.
    """
    costs: dict[int, float] = {}
    for position, cost in ((o.cuts[0][0], o.cost) for o in options if o.cuts):
        costs[position] = max(cost, costs.get(position, cost))
    whole = [option for option in options if not option.cuts]
    windows = [option for option in whole if option.windows]
    others = [Removal((), (), 0, 0.0)]
    for share in SHARES_OF_WHOLE:
        for among in (windows, whole):
            others += cheapest_removals(among, len(goal.cost.layers), share * goal.amount, 1)
    others += [replace(one, cuts=()) for one in cheapest[:1]]
    unlike = {(one.windows, one.gone): replace(one, cost=0.0) for one in others}
    made = (even(one, costs) for one in unlike.values())
    return [one for one in made if one is not None]
