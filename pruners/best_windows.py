"""The set of windows that costs least, each window judged with whatever the merger makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import Field

from swm.interfaces.depth import DepthContext, DepthProposal, DepthPruner
from swm.model.windows import Window


@final
@dataclass(frozen=True)
class BestWindows(DepthPruner):
    """Removes the target by the set of disjoint windows that costs least, out of `candidates` with small sums of costs.

    The cost of a window is how much it raises the next-token loss, or with `criterion: similarity` lowers the
    similarity at the model's end, when it alone becomes what the merger makes of it; so a merger that repairs decides
    what is cheap. Windows lose at most `longest` layers; dynamic programming finds the sets with the least sums, for
    every number of windows, and those are measured as they are. Layers outside `protect_first` and `protect_last` may
    go.
    """

    name: ClassVar[str] = "best-windows"
    default_merger: ClassVar[str | Mapping[str, Any] | None] = "least-squares"

    criterion: Literal["loss", "similarity"] = "loss"
    longest: Annotated[int, Field(ge=1)] = 6
    candidates: Annotated[int, Field(ge=1)] = 8
    protect_first: Annotated[int, Field(ge=0)] = 0
    protect_last: Annotated[int, Field(ge=0)] = 0

    def capacity(self, layers: int) -> int:
        inner = layers - self.protect_first - self.protect_last
        return sum(window.removed for window in _fill(inner, self.longest))

    def effort(self, layers: int, target: int | None) -> int | None:
        return len(self._windows(layers, target or 0)) + 1 + self.candidates

    def propose(self, context: DepthContext) -> DepthProposal:
        assert context.target is not None
        windows = self._windows(context.layers, context.target)
        before = self._badness(context, [])
        costs = {window: self._badness(context, [window]) - before for window in windows}
        sets = worth_measuring(costs, context.layers, context.target, self.candidates)
        together = {chosen: self._badness(context, chosen) - before for chosen in sets}
        best = min(sets, key=lambda chosen: (not math.isfinite(together[chosen]), together[chosen]))
        facts = {
            "costs": {str(window): round(costs[window], 6) for window in best},
            "cost_together": round(together[best], 6),
            "candidate": sets.index(best),
        }
        return DepthProposal(best, facts)

    def _windows(self, layers: int, target: int) -> list[Window]:
        stop = layers - self.protect_last
        return [
            Window(first, first + removed)
            for first in range(self.protect_first, stop)
            for removed in range(1, min(self.longest, target, stop - 1 - first) + 1)
        ]

    def _badness(self, context: DepthContext, windows: Sequence[Window]) -> float:
        return context.loss(windows) if self.criterion == "loss" else -context.trial(windows)


def _fill(layers: int, longest: int) -> list[Window]:
    """As many windows of the greatest length as fit."""
    found, first = [], 0
    while first + 1 < layers:
        found.append(Window(first, min(first + longest, layers - 1)))
        first = found[-1].last + 1
    return found


Ways = list[tuple[float, tuple[Window, ...]]]


def cheapest(costs: Mapping[Window, float], layers: int, target: int, count: int = 1) -> list[tuple[Window, ...]]:
    """The `count` sets of disjoint windows that remove `target` layers for the least sums of costs, the least first.

    Of equal sums the lower layers come first; a cost that is not a number counts as infinite.
    """
    ways = [way for found in _by_number(costs, layers, target, count) for way in found]
    return [windows for _, windows in sorted(ways)[:count]]


def worth_measuring(costs: Mapping[Window, float], layers: int, target: int, count: int) -> list[tuple[Window, ...]]:
    """`count` sets worth measuring, by the sums of their costs: the best of every number of windows, then the cheapest.

    The more windows, the more a sum leaves out of what they cost together; so the cheapest sums alone would all be sets
    of many windows.
    """
    by_number = _by_number(costs, layers, target, count)
    ways = sorted(found[0] for found in by_number if found)[:count]
    others = sorted(way for found in by_number for way in found[1:])
    return [windows for _, windows in sorted([*ways, *others[: count - len(ways)]])]


def _by_number(costs: Mapping[Window, float], layers: int, target: int, count: int) -> list[Ways]:
    """The `count` cheapest sets of no window, of one, of two and so on."""
    # best[end][n, m] holds the cheapest ways to remove n layers below layer `end` with m windows.
    best: list[dict[tuple[int, int], Ways]] = [{(0, 0): [(0.0, ())]}]
    ending: dict[int, list[tuple[Window, float]]] = {}
    for window, cost in costs.items():
        ending.setdefault(window.last + 1, []).append((window, math.inf if math.isnan(cost) else cost))
    for end in range(1, layers + 1):
        found = {key: list(ways) for key, ways in best[-1].items()}
        for window, cost in ending.get(end, ()):
            for (n, m), ways in best[window.first].items():
                if n + window.removed <= target:
                    fresh = [(total + cost, (*windows, window)) for total, windows in ways]
                    found.setdefault((n + window.removed, m + 1), []).extend(fresh)
        best.append({key: sorted(ways)[:count] for key, ways in found.items()})
    return [best[layers].get((target, m), []) for m in range(target + 1)]
