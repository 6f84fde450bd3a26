"""The set of windows that costs least, each window judged with whatever the merger makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import Field

from swm.interfaces.depth import DepthContext, DepthProposal, DepthPruner, required_target
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

    asks_losses: ClassVar[bool] = True

    def capacity(self, layers: int) -> int:
        inner = layers - self.protect_first - self.protect_last
        return sum(window.removed for window in _fill(inner, self.longest))

    def effort(self, layers: int, target: int | None) -> int | None:
        return len(self._windows(layers, target or 0)) + 1 + self.candidates

    def propose(self, context: DepthContext) -> DepthProposal:
        windows = self._windows(context.layers, required_target(context))
        before = self._cost(context, [])
        costs = {window: self._cost(context, [window]) - before for window in windows}
        sets = worth_measuring(costs, context.layers, required_target(context), self.candidates)
        together = {chosen: self._cost(context, chosen) - before for chosen in sets}
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

    def _cost(self, context: DepthContext, windows: Sequence[Window]) -> float:
        return context.loss(windows) if self.criterion == "loss" else -context.trial(windows)


def _fill(layers: int, longest: int) -> list[Window]:
    """As many windows of the greatest length as fit."""
    windows: list[Window] = []
    first = 0
    while first + 1 < layers:
        windows.append(Window(first, min(first + longest, layers - 1)))
        first = windows[-1].last + 1
    return windows


WindowSets = list[tuple[float, tuple[Window, ...]]]
"""Sets of disjoint windows, each with the sum of its costs."""


def cheapest(costs: Mapping[Window, float], layers: int, target: int, count: int = 1) -> list[tuple[Window, ...]]:
    """The sets of disjoint windows that remove `target` layers for the least sums of costs, the least first.

    Of equal sums the lower layers come first.

    Args:
        costs: The cost of each window; one that is not a number counts as infinite.
        layers: How many layers the model has.
        target: How many layers go.
        count: How many sets to return.
    """
    sets = [one for of_number in _by_number(costs, layers, target, count) for one in of_number]
    return [windows for _, windows in sorted(sets)[:count]]


def worth_measuring(costs: Mapping[Window, float], layers: int, target: int, count: int) -> list[tuple[Window, ...]]:
    """The sets worth measuring, by the sums of their costs: the best of every number of windows, then the cheapest.

    The more windows, the more a sum leaves out of what they cost together; so the cheapest sums alone would all be sets
    of many windows.

    Args:
        costs: What each window costs when it alone is merged.
        layers: How many layers there are.
        target: How many of them go.
        count: How many sets there are room to measure.
    """
    by_number = _by_number(costs, layers, target, count)
    best = sorted(sets[0] for sets in by_number if sets)[:count]
    others = sorted(one for sets in by_number for one in sets[1:])
    return [windows for _, windows in sorted([*best, *others[: count - len(best)]])]


def _by_number(costs: Mapping[Window, float], layers: int, target: int, count: int) -> list[WindowSets]:
    """The `count` cheapest sets of no window, of one, of two and so on. See `cheapest` for the Args."""
    # best[end][n, m] holds the cheapest sets of m windows that remove n layers below layer `end`.
    best: list[dict[tuple[int, int], WindowSets]] = [{(0, 0): [(0.0, ())]}]
    ending: dict[int, list[tuple[Window, float]]] = {}
    for window, cost in costs.items():
        ending.setdefault(window.last + 1, []).append((window, math.inf if math.isnan(cost) else cost))
    for end in range(1, layers + 1):
        extended = {key: list(sets) for key, sets in best[-1].items()}
        for window, cost in ending.get(end, ()):
            for (n, m), sets in best[window.first].items():
                if n + window.removed <= target:
                    fresh = [(total + cost, (*windows, window)) for total, windows in sets]
                    extended.setdefault((n + window.removed, m + 1), []).extend(fresh)
        best.append({key: sorted(sets)[:count] for key, sets in extended.items()})
    return [best[layers].get((target, m), []) for m in range(target + 1)]
