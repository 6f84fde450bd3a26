"""The sets of windows and channel cuts that remove enough for the least sum of costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swm.depth.program import ChannelCut, SubBlock
from swm.model.windows import Window

# So many cells hold the goal; sets that differ by less are compared by their cost alone.
CELLS = 400
# A set may remove this share of the goal less or more.
SLACK = 0.01


@dataclass(frozen=True)
class Removal:
    """Windows that are merged, channel cuts, and sub-blocks that are `gone`.

    `saved` goes with them, in parameters or what else the target counts, and the next-token loss rises by `cost` nats.
    """

    windows: tuple[Window, ...]
    cuts: tuple[ChannelCut, ...]
    saved: float
    cost: float
    gone: tuple[SubBlock, ...] = ()

    def __add__(self, other: Removal) -> Removal:
        """Both, with the sum of their costs."""
        return Removal(
            (*self.windows, *other.windows),
            (*self.cuts, *other.cuts),
            self.saved + other.saved,
            self.cost + other.cost,
            (*self.gone, *other.gone),
        )


def cheapest_removals(
    options: Sequence[Removal], layers: int, goal: float, count: int, least: bool = False
) -> list[Removal]:
    """The sets of options with the least sums of costs, found by dynamic programming over layers and what goes.

    Args:
        options: One window, one cut or one sub-block each. Those whose cost is not finite are left out.
        layers: The number of layers of the model; no set touches one of them twice.
        goal: About how much a set removes.
        count: How many sets are wanted.
        least: Whether less than that is not enough. What removes hardly more is looked at first, then what removes as
            much more as the smallest of the options, and at last the largest.

    Returns:
        The sets, the cheapest first; none where no set comes near the goal.
    """
    sizes = sorted(option.saved for option in options) if least else []
    for more in (SLACK * goal, *sizes[:1], *sizes[-1:]):
        sets = _below(options, layers, goal, goal + more, count, least)
        if sets:
            break
    return sets


def _below(
    options: Sequence[Removal], layers: int, goal: float, ceiling: float, count: int, least: bool
) -> list[Removal]:
    """As `cheapest_removals`, of the sets that remove no more than the ceiling.

    Args:
        options, layers, goal, count, least: As there.
        ceiling: The most that a set removes.
    """
    cell = ceiling / CELLS
    by_end: dict[int, list[Removal]] = {}
    for option in options:
        if math.isfinite(option.cost):
            by_end.setdefault(_last(option), []).append(option)
    # best[end][n]: the cheapest sets that remove about n cells from the layers below `end`.
    best: list[dict[int, list[Removal]]] = [{0: [Removal((), (), 0, 0.0)]}]
    for last in range(layers):
        cells: dict[int, list[Removal]] = {n: list(sets) for n, sets in best[last].items()}
        for option in by_end.get(last, ()):
            for sets in best[_first(option)].values():
                for below in sets:
                    saved = below.saved + option.saved
                    if saved <= ceiling:
                        cells.setdefault(int(saved / cell), []).append(below + option)
        best.append({n: sorted(sets, key=_order)[:count] for n, sets in cells.items()})
    removals = [removal for sets in best[layers].values() for removal in sets]
    near = [removal for removal in removals if removal.saved >= (goal if least else goal * (1 - SLACK))]
    if not near and not least:
        most = max((removal.saved for removal in removals), default=0)
        near = [removal for removal in removals if removal.saved == most and most > goal / 2]
    return sorted(near, key=_order)[:count]


def _first(option: Removal) -> int:
    """The lowest layer that an option touches."""
    return option.windows[0].first if option.windows else _place(option)


def _last(option: Removal) -> int:
    """The highest layer that an option touches."""
    return option.windows[0].last if option.windows else _place(option)


def _place(option: Removal) -> int:
    return option.cuts[0][0] if option.cuts else option.gone[0].position


def _order(removal: Removal) -> tuple[Any, ...]:
    """By cost; what costs the same in an order of its own."""
    windows = tuple((window.first, window.last) for window in removal.windows)
    gone = tuple((block.position, block.part) for block in removal.gone)
    return removal.cost, removal.saved, windows, removal.cuts, gone
