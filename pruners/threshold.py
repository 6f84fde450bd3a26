"""Finding the threshold at which a pruner's walk over the layers meets a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from swm.interfaces.depth import DepthProposal
from swm.model.windows import Window, removed_layers

Trial = Callable[[Sequence[Window]], float]

# Bisection does not tell thresholds closer together than this apart, and looks at no more than this many.
RESOLUTION = 1e-4
ROUNDS = 16


@dataclass
class Walk:
    """One pass over the layers with one threshold, and the similarities it met."""

    threshold: float
    windows: list[Window] = field(default_factory=list)
    lowest_pass: float = float("inf")
    highest_fail: float = float("-inf")
    dangling: int = 0
    """How many layers more a passing window would remove that was thrown away (the released SWM loop does so)."""
    latest: float = float("nan")
    """The similarity of the latest trial."""
    abandoned: bool = False
    """The walk ended early because it could not reach its limit any more."""

    @property
    def removed(self) -> int:
        return removed_layers(self.windows)

    def passes(self, trial: Trial, window: Window) -> bool:
        """Whether the model with the windows so far and this one is similar enough; not a number is not."""
        self.latest = similarity = trial([*self.windows, window])
        if similarity > self.threshold:
            self.lowest_pass = min(self.lowest_pass, similarity)
            return True
        if similarity <= self.threshold:
            self.highest_fail = max(self.highest_fail, similarity)
        return False


def search_threshold(walk: Callable[[float, int | None], Walk], target: int) -> DepthProposal:
    """The highest threshold at which `walk(threshold, target)` removes `target` layers, by bisection.

    A walk takes the same decisions for all thresholds from its highest failing similarity up to its lowest passing
    one, so each halving skips everything already known. The count need not fall as the threshold rises; among the
    thresholds visited, the one nearest to the target wins, never more than one layer above it, then the highest.
    """
    # Any finite similarity passes at this threshold, so the first walk is the most that can be removed.
    visited = [walk(-2.0, target)]
    if visited[0].abandoned:
        # Models that overflow keep the target out of reach; what can be removed all the same comes nearest to it.
        visited = [walk(-2.0, None)]
    low, high = min(visited[0].lowest_pass, 1.0), 1.0
    for _ in range(ROUNDS):
        if high - low < RESOLUTION:
            break
        result = walk((low + high) / 2, target)
        visited.append(result)
        if result.removed + result.dangling >= target:
            low = max(result.threshold, min(result.lowest_pass, high))
        else:
            high = min(result.threshold, max(result.highest_fail, low))
    # A loop that throws a window away may miss the target there: look further down, one decision at a time.
    enough = [w for w in visited if w.removed + w.dangling >= target]
    edge = max(enough, key=lambda w: w.threshold, default=visited[0])
    for _ in range(ROUNDS):
        if edge.removed == target or not math.isfinite(edge.highest_fail):
            break
        edge = walk(math.nextafter(edge.highest_fail, -2.0), target)
        visited.append(edge)
    usable = [w for w in visited if not w.abandoned and w.removed <= target + 1]
    best = min(usable, key=lambda w: (abs(w.removed - target), -w.threshold), default=Walk(1.0))
    facts: dict[str, Any] = {"threshold": _reported(best), "thresholds_tried": len(visited)}
    return DepthProposal(best.windows, facts)


def _reported(walk: Walk) -> float:
    """The shortest threshold at which the walk takes the same decisions, as near below its lowest pass as can be."""
    if not math.isfinite(walk.lowest_pass):
        return walk.threshold
    for digits in range(2, 12):
        # Strictly below: a similarity may itself be a short number, such as 1.0 for a layer that does nothing.
        value: float = (math.ceil(walk.lowest_pass * 10.0**digits) - 1) / 10.0**digits
        if walk.highest_fail <= value < walk.lowest_pass:
            return value
    return walk.threshold
