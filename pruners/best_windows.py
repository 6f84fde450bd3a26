"""The set of windows that costs least, each window judged alone with whatever the merger makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import Field

from swm.interfaces.depth import DepthContext, DepthProposal, DepthPruner
from swm.windows import Window


@final
@dataclass(frozen=True)
class BestWindows(DepthPruner):
    """Removes the target by the disjoint windows whose costs, each taken alone, have the least sum.

    The cost of a window is how much it raises the next-token loss, or with `criterion: similarity` lowers the
    similarity at the model's end, when it alone becomes what the merger makes of it; so a merger that repairs decides
    what is cheap. Windows lose at most `longest` layers; dynamic programming finds the best set. Layers outside
    `protect_first` and `protect_last` may go.
    """

    name: ClassVar[str] = "best-windows"
    default_merger: ClassVar[str | Mapping[str, Any] | None] = "least-squares"

    criterion: Literal["loss", "similarity"] = "loss"
    longest: Annotated[int, Field(ge=1)] = 6
    protect_first: Annotated[int, Field(ge=0)] = 0
    protect_last: Annotated[int, Field(ge=0)] = 0

    def capacity(self, layers: int) -> int:
        inner = layers - self.protect_first - self.protect_last
        return sum(window.removed for window in _fill(inner, self.longest))

    def effort(self, layers: int, target: int | None) -> int | None:
        return len(self._windows(layers, target or 0)) + 1

    def propose(self, context: DepthContext) -> DepthProposal:
        assert context.target is not None
        windows = self._windows(context.layers, context.target)
        before = self._badness(context, [])
        costs = {window: self._badness(context, [window]) - before for window in windows}
        chosen = cheapest(costs, context.layers, context.target)
        return DepthProposal(chosen, {"costs": {str(w): round(costs[w], 6) for w in chosen}})

    def _windows(self, layers: int, target: int) -> list[Window]:
        stop = layers - self.protect_last
        return [
            Window(first, first + removed)
            for first in range(self.protect_first, stop)
            for removed in range(1, min(self.longest, target, stop - 1 - first) + 1)
        ]

    def _badness(self, context: DepthContext, windows: list[Window]) -> float:
        return context.loss(windows) if self.criterion == "loss" else -context.trial(windows)


def _fill(layers: int, longest: int) -> list[Window]:
    """As many windows of the greatest length as fit."""
    found, first = [], 0
    while first + 1 < layers:
        found.append(Window(first, min(first + longest, layers - 1)))
        first = found[-1].last + 1
    return found


def cheapest(costs: Mapping[Window, float], layers: int, target: int) -> list[Window]:
    """The disjoint windows that remove `target` layers together for the least sum of costs; ties go to lower layers."""
    # best[count] holds the cheapest way to remove so many layers below the current one.
    best: list[list[tuple[float, tuple[Window, ...]] | None]] = [[None] * (target + 1) for _ in range(layers + 1)]
    best[0][0] = (0.0, ())
    ending: dict[int, list[Window]] = {}
    for window in costs:
        ending.setdefault(window.last + 1, []).append(window)
    for end in range(1, layers + 1):
        best[end] = list(best[end - 1])
        for window in ending.get(end, ()):
            for count in range(window.removed, target + 1):
                below = best[window.first][count - window.removed]
                if below is None:
                    continue
                total = below[0] + costs[window]
                known = best[end][count]
                if known is None or total < known[0]:
                    best[end][count] = (total, (*below[1], window))
    found = best[layers][target]
    assert found is not None
    return list(found[1])
