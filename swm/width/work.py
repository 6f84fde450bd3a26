"""How much the scores of units compute."""

from __future__ import annotations

from collections.abc import Collection

from swm.interfaces.width import WidthPruner
from swm.interfaces.work import WITH_GRADIENTS, Work
from swm.model.units import ROUTED
from swm.width.gradients import GRADIENTS


def scoring_work(pruner: WidthPruner, parts: Collection[str]) -> Work:
    """Of `score_units`: a pass for each kind of statistics, and one that is taken back layer by layer for gradients."""
    needs, routed = pruner.needs(), bool(ROUTED & set(parts))
    passes = 0.0
    if "inputs" in needs or pruner.compensates():
        # Experts are run once more to see what enters their last projection.
        passes += 3 if routed else 1
    if "routing" in needs:
        passes += 2
    scores = 0.0
    if needs & GRADIENTS:
        passes += 1 + WITH_GRADIENTS
        scores += WITH_GRADIENTS
    return Work(passes, scores)
