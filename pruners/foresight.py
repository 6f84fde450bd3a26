"""Telling windows that cannot pass without a trial, from what they change where they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from swm.interfaces.depth import DepthContext
from swm.model.windows import Window
from swm.pruners.threshold import Walk

# Trials that must have been made before anything is foretold of others.
EXPERIENCE = 3
# A window may change the end of the model by this part of what is foretold, and is still given its trial.
CAUTION = 0.5


@dataclass
class Foresight:
    """Learns from trials how much of a window's local change reaches the end of the model.

    A window's local change is `1 - local(window)`, its loss `trial(windows so far) - trial(with it)`. The least loss by
    local change of all trials so far, times `CAUTION`, foretells what a further window costs at least.
    """

    context: DepthContext
    trials: int = 0
    least: float = math.inf

    def hopeless(self, walk: Walk, window: Window) -> bool:
        """Whether the windows so far and this one are not worth a trial at the walk's threshold."""
        if self.trials < EXPERIENCE:
            return False
        foretold = CAUTION * self.least * self._change(window)
        return self.context.trial(walk.windows) - foretold <= walk.threshold

    def learn(self, walk: Walk, window: Window, similarity: float) -> None:
        """Note what a trial of the windows so far and this one gave."""
        change = self._change(window)
        if change > 0 and math.isfinite(similarity):
            self.trials += 1
            self.least = min(self.least, (self.context.trial(walk.windows) - similarity) / change)

    def _change(self, window: Window) -> float:
        """Not a number where the similarity says nothing about single layers, and nothing is foretold then."""
        return 1 - self.context.local(window)
