"""How far down a window grows while the merged model stays similar enough: layer by layer, or by bisection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from swm.model.windows import Window
from swm.pruners.loss_predictor import LossPredictor
from swm.pruners.threshold import Trial, Walk

Growth = Callable[[Walk, Trial, int, int], int]


def grow_by_one(walk: Walk, trial: Trial, high: int, floor: int) -> int:
    """The lowest layer of the largest window that passes, found a layer at a time.

    Args:
        walk: The windows so far, and the threshold.
        trial: Gives the similarity of the model with some windows merged.
        high: The last layer of the window.
        floor: The window grows no lower than this layer.

    Returns:
        The window's first layer; `high` where not even two layers pass.
    """
    low = high
    while low > floor and walk.passes(trial, Window(low - 1, high)):
        low -= 1
    return low


@dataclass
class Bisection:
    """As `grow_by_one`, where every window passes that a passing one contains and what is predicted comes true."""

    predictor: LossPredictor

    def __call__(self, walk: Walk, trial: Trial, high: int, floor: int) -> int:
        """See `grow_by_one` for the Args."""
        good, step = high, 1
        while good > floor:
            low = max(floor, good - step)
            if not self._passes(walk, trial, Window(low, high)):
                break
            good, step = low, 2 * step
        else:
            return good
        while good - low > 1:
            middle = (good + low) // 2
            if self._passes(walk, trial, Window(middle, high)):
                good = middle
            else:
                low = middle
        return good

    def _passes(self, walk: Walk, trial: Trial, window: Window) -> bool:
        if self.predictor.cannot_pass(walk, window):
            return False
        passed = walk.passes(trial, window)
        self.predictor.learn(walk, window, walk.latest)
        return passed
