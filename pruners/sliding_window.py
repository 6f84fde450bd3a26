"""Sliding-Window Merging, the depth pruner that this project is named after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import Field

from swm.interfaces.depth import DepthContext, DepthProposal, DepthPruner, required_target
from swm.model.windows import Window
from swm.pruners.loss_predictor import LossPredictor
from swm.pruners.threshold import Trial, Walk, search_threshold
from swm.pruners.window_growth import Bisection, Growth, grow_by_one


@final
@dataclass(frozen=True)
class SlidingWindow(DepthPruner):
    """Grows a window downward from the top while the merged model stays similar to the original one.

    A window that stops passing `similarity > threshold` is merged without its last layer, and the next one starts
    below it; a window of two layers that does not pass slides down by one layer. With `threshold` left out, the
    stage's target is met: the highest threshold is searched at which the walk removes that many layers.

    `quirks: released` takes the decisions of the released code, which throws away a window that still passes when it
    reaches layer 0 and has no budget (the target is then met as nearly as some threshold does), and whose merge leaves
    the bottom layer's biases where they are. `quirks: fixed` merges
    that window, stops at the target, and never touches the first `protect_first` and last `protect_last` layers.

    `search: bisect` finds how far a window grows by doubling steps and bisection, in about twice the logarithm of its
    length of trials, and gives no trial to a window that changes its own place in the model too much. The windows are
    those of `linear` unless one passes that contains another, with the same top, that does not; or unless one passes
    that loses less than half as much similarity at the model's end, by what it changes in its place, as any before.

    Source: arXiv 2502.19159, Figure 2 and section 3, and the released `SLM.py`.
    """

    name: ClassVar[str] = "sliding-window"
    paper: ClassVar[str] = "https://arxiv.org/abs/2502.19159"
    only_layers: ClassVar[str] = "it merges windows of layers into one layer each"
    default_merger: ClassVar[str | Mapping[str, Any]] = "consolidate"

    threshold: Annotated[float, Field(ge=-1, le=1)] | None = None
    quirks: Literal["fixed", "released"] = "fixed"
    protect_first: Annotated[int, Field(ge=0)] = 1
    protect_last: Annotated[int, Field(ge=0)] = 1
    search: Literal["linear", "bisect"] = "linear"

    def __post_init__(self) -> None:
        if self.quirks == "released" and (self.protect_first, self.protect_last) != (1, 1):
            raise ValueError("quirks: released has fixed protected layers; leave protect_first and protect_last out")

    def is_released(self) -> bool:
        return self.quirks == "released"

    def uses_target(self) -> bool:
        return self.threshold is None

    def capacity(self, layers: int) -> int:
        return layers - self.protect_first - self.protect_last - 1

    def effort(self, layers: int, target: int | None) -> int | None:
        return None if target is not None else layers - 2

    def guessed_trials(self, layers: int, target: int | None) -> int:
        # A search for a threshold walks down the layers again and again, and asks little twice.
        return 2 * layers

    def propose(self, context: DepthContext) -> DepthProposal:
        grow: Growth = grow_by_one if self.search == "linear" else Bisection(LossPredictor(context))
        # What a search for a threshold or a predictor learns from must be exact.
        above = self.threshold if self.search == "linear" else None

        def trial(windows: Sequence[Window]) -> float:
            return context.trial(windows, above)

        def walk(threshold: float, limit: int | None) -> Walk:
            if self.quirks == "released":
                return walk_released(trial, context.layers, threshold, grow)
            ends = self.protect_first, self.protect_last
            return walk_fixed(trial, context.layers, threshold, limit, *ends, grow)

        if self.threshold is not None:
            return DepthProposal(walk(self.threshold, None).windows, {"threshold": self.threshold})
        return search_threshold(walk, required_target(context))


def walk_released(trial: Trial, layers: int, threshold: float, grow: Growth = grow_by_one) -> Walk:
    """The released loop, decision by decision, without the trial it wastes after each merge.

    That trial looks at a window of one layer, which is the model just accepted; with a similarity that is not
    deterministic the released loop may then never end.

    Args:
        trial: Gives the similarity of the model with some windows merged.
        layers: How many layers the model has.
        threshold: A window passes when the similarity is above it.
        grow: Finds how far down a window grows.
    """
    walk = Walk(threshold)
    high = layers - 2
    while high > 0:
        low = grow(walk, trial, high, 0)
        if low == 0:
            walk.dangling = high
            return walk
        if low < high:
            walk.windows.append(Window(low, high))
        high = low - 1
    return walk


def walk_fixed(
    trial: Trial,
    layers: int,
    threshold: float,
    limit: int | None,
    protect_first: int = 1,
    protect_last: int = 1,
    grow: Growth = grow_by_one,
) -> Walk:
    """The loop with the pending window merged at the end, ended early once `limit` layers are removed.

    Args:
        trial: Gives the similarity of the model with some windows merged.
        layers: How many layers the model has.
        threshold: A window passes when the similarity is above it.
        limit: The number of layers to remove, None for as many as pass.
        protect_first: So many layers at the bottom are never touched.
        protect_last: So many layers at the top are never touched.
        grow: Finds how far down a window grows.
    """
    walk = Walk(threshold)
    high = layers - 1 - protect_last
    while high > protect_first:
        # Every layer that is left together cannot reach the limit any more: this threshold is too high.
        if limit is not None and walk.removed + high - protect_first < limit:
            walk.abandoned = True
            return walk
        floor = protect_first if limit is None else max(protect_first, high - limit + walk.removed)
        low = grow(walk, trial, high, floor)
        if low < high:
            walk.windows.append(Window(low, high))
        if walk.removed == limit:
            return walk
        high = low - 1
    return walk
