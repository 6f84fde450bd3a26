"""Predicting from what a window changes where it is that it cannot pass, so that it needs no trial."""

from __future__ import annotations

import math
from dataclasses import dataclass

from swm.interfaces.depth import DepthContext
from swm.model.windows import Window
from swm.pruners.threshold import Walk

# Trials that must have been made before anything is predicted.
EXPERIENCE = 3
# A window that costs at least this part of its prediction still gets its trial.
CAUTION = 0.5


@dataclass
class LossPredictor:
    """Learns from trials how much of a window's local change reaches the end of the model.

    A window's local change is `1 - local(window)`, its loss `trial(windows so far) - trial(with it)`. The least loss by
    local change of all trials so far, times `CAUTION`, predicts what a further window costs at least.
    """

    context: DepthContext
    trials: int = 0
    least: float = math.inf

    def cannot_pass(self, walk: Walk, window: Window) -> bool:
        """Whether the windows so far and this one are predicted to fail at the walk's threshold."""
        if self.trials < EXPERIENCE:
            return False
        loss = CAUTION * self.least * self._change(window)
        return self.context.trial(walk.windows) - loss <= walk.threshold

    def learn(self, walk: Walk, window: Window, similarity: float) -> None:
        """Note the similarity of a trial of the windows so far and this one."""
        change = self._change(window)
        if change > 0 and math.isfinite(similarity):
            self.trials += 1
            self.least = min(self.least, (self.context.trial(walk.windows) - similarity) / change)

    def _change(self, window: Window) -> float:
        """Not a number where the similarity says nothing about single layers; nothing is predicted then."""
        return 1 - self.context.local(window)
