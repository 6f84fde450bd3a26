"""Layer collapse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from swm.interfaces.depth import DepthContext, DepthProposal, DepthPruner, required_target
from swm.model.windows import Window
from swm.pruners.threshold import Walk, search_threshold


@final
@dataclass(frozen=True)
class LaCo(DepthPruner):
    """Merges runs of `merge_layers` adjacent layers from the top down wherever the model stays similar enough.

    Each accepted run becomes one layer of the model that the next run is cut from, so a later run may swallow an
    earlier result; such runs are merged at once here, which is the same for the released (telescoped) merge. After an
    accepted run the next one starts `interval` layers lower, after a refused one 1 lower. With `threshold` left out
    the stage's target is met, a run being shortened where it would remove too much. A later run of the released
    loop may swallow the last layer too; here it is spared unless `protect_last` is 0.

    Source: Yang et al., arXiv 2402.11187, algorithm 1, and the released notebook.
    """

    name: ClassVar[str] = "laco"
    paper: ClassVar[str] = "https://arxiv.org/abs/2402.11187"
    only_layers: ClassVar[str] = "it merges runs of layers into one layer each"
    default_merger: ClassVar[str | Mapping[str, Any]] = "consolidate"

    threshold: Annotated[float, Field(ge=-1, le=1)] | None = None
    merge_layers: Annotated[int, Field(ge=2)] = 4
    interval: Annotated[int, Field(ge=1)] = 1
    protect_first: Annotated[int, Field(ge=0)] = 0
    protect_last: Annotated[int, Field(ge=0)] = 1

    def uses_target(self) -> bool:
        return self.threshold is None

    def capacity(self, layers: int) -> int:
        most = layers - self.protect_first - self.protect_last
        return most - 1 if most >= self.merge_layers else 0

    def guessed_trials(self, layers: int, target: int | None) -> int:
        # Each of the tried thresholds walks down the layers.
        return 2 * layers

    def propose(self, context: DepthContext) -> DepthProposal:
        def walk(threshold: float, limit: int | None) -> Walk:
            return self._walk(context, threshold, limit)

        if self.threshold is not None:
            return DepthProposal(walk(self.threshold, None).windows, {"threshold": self.threshold})
        return search_threshold(walk, required_target(context))

    def _walk(self, context: DepthContext, threshold: float, limit: int | None) -> Walk:
        walk = Walk(threshold)
        end = context.layers - self.protect_last
        groups = [Window(i, i) for i in range(end)]
        start = len(groups) - self.merge_layers
        while start >= self.protect_first:
            size = min(self.merge_layers, len(groups) - start)
            if limit is not None:
                size = min(size, limit - walk.removed + 1)
            if size < 2:
                start -= 1
                continue
            run = Window(groups[start].first, groups[start + size - 1].last)
            committed = walk.windows
            walk.windows = [w for w in committed if w.last < run.first or w.first > run.last]
            if walk.passes(lambda windows: context.trial(windows, self.threshold), run):
                walk.windows = sorted([*walk.windows, run])
                groups[start : start + size] = [run]
                if walk.removed == limit:
                    return walk
                start = min(start - self.interval, len(groups) - 1)
            else:
                walk.windows = committed
                start -= 1
        return walk
