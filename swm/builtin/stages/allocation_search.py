"""Spending a budget on windows of layers and on channels of layers, so that the sum of costs is least."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from swm.depth.program import ChannelCut
from swm.model.windows import Window

# So many cells hold the goal; sets that differ by less are told apart by their cost alone.
CELLS = 400
# A set may remove this share of the goal less or more.
SLACK = 0.01


@dataclass(frozen=True)
class Spending:
    """Windows that are merged, layers that lose channels, the parameters that go, and what it costs in nats."""

    windows: tuple[Window, ...]
    cuts: tuple[ChannelCut, ...]
    removed: int
    cost: float


def cheapest_spendings(options: Sequence[Spending], layers: int, goal: float, count: int) -> list[Spending]:
    """The `count` sets of options that remove about `goal` parameters for the least sums of costs, the least first.

    Each option is one window or one cut; no layer is touched twice. Costs that are not a number are infinite. Empty
    when no set comes near the goal.
    """
    cell = goal * (1 + SLACK) / CELLS
    # best[end][n]: the cheapest ways to free about n cells below layer `end`.
    best: list[dict[int, list[Spending]]] = [{0: [Spending((), (), 0, 0.0)]}]
    ending: dict[int, list[Spending]] = {}
    for option in options:
        ending.setdefault(_end(option), []).append(option)
    for end in range(1, layers + 1):
        found: dict[int, list[Spending]] = {n: list(ways) for n, ways in best[end - 1].items()}
        for option in ending.get(end, ()):
            if not math.isfinite(option.cost):
                continue
            for ways in best[_start(option)].values():
                for way in ways:
                    removed = way.removed + option.removed
                    if removed <= goal * (1 + SLACK):
                        found.setdefault(int(removed / cell), []).append(_joined(way, option))
        best.append({n: sorted(ways, key=_order)[:count] for n, ways in found.items()})
    near = [way for ways in best[layers].values() for way in ways if way.removed >= goal * (1 - SLACK)]
    if not near:
        most = max((way.removed for ways in best[layers].values() for way in ways), default=0)
        near = [way for ways in best[layers].values() for way in ways if way.removed == most and most > goal / 2]
    return sorted(near, key=_order)[:count]


def _end(option: Spending) -> int:
    return (option.windows[0].last if option.windows else option.cuts[0][0]) + 1


def _start(option: Spending) -> int:
    return option.windows[0].first if option.windows else option.cuts[0][0]


def _joined(way: Spending, option: Spending) -> Spending:
    return Spending(
        (*way.windows, *option.windows),
        (*way.cuts, *option.cuts),
        way.removed + option.removed,
        way.cost + option.cost,
    )


def _order(way: Spending) -> tuple[float, int, tuple[tuple[int, int], ...], tuple[ChannelCut, ...]]:
    return way.cost, way.removed, tuple((window.first, window.last) for window in way.windows), way.cuts
