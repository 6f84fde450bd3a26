"""MadeRemovals: what removals of an allocation cost, made as the result would be, on text that no fit has seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from swm.builtin.stages.allocation_search import Removal
from swm.builtin.stages.allocation_steps import AllocationSteps, KeptUnits
from swm.builtin.stages.repaired_trials import RepairedTrials
from swm.depth.engine import DepthEngine
from swm.depth.streams import seen_samples
from swm.interfaces.merger import LayerMerger
from swm.interfaces.progress import Task
from swm.interfaces.similarity import SimilarityMetric
from swm.interfaces.stage import Stage, StageContext


@dataclass(frozen=True)
class MadeRemovals:
    """Makes removals on models that share their numbers with the one at hand, of which nothing changes.

    Fits of few tokens, as those of a search, make narrow layers look far worse than fits of all of the text, and on
    text that they were fitted to, the largest fits look best. A quarter of the samples is left out of the fits and
    measured, as in searches; a single sample is both.

    Args:
        context: The model and all of the text, of which the last quarter is measured.
        merger: How a window becomes one layer.
        similarity: Is asked by the fits of windows.
        units: The channels that each cut keeps, ascending.
        repair: A stage that repairs each model before it is measured, on the same samples as the fits.
        task: Advances with every model.
    """

    context: StageContext
    merger: LayerMerger
    similarity: SimilarityMetric
    units: KeptUnits
    repair: Stage | None
    task: Task

    def cost(self, removal: Removal) -> float:
        """By how many nats the mean next-token loss rises, after the repair if there is one."""
        engine = DepthEngine(self._fitting, self.similarity, self.merger, None)
        steps, _ = AllocationSteps(self._fitting, engine, self.merger, self.units).of(removal)
        cost = self._trials.loss(steps) - self._before
        about = [*map(str, removal.windows), f"{len(removal.cuts)} narrower", f"{len(removal.gone)} sub-blocks gone"]
        self.task.advance(note=f"{', '.join(about)}: loss rises by {cost:.4f}")
        return cost

    @cached_property
    def _fitting(self) -> StageContext:
        return self.context.first(seen_samples(len(self.context.calibration.ids)) or None)

    @cached_property
    def _trials(self) -> RepairedTrials:
        samples = self.context.calibration.samples
        return RepairedTrials(self._fitting, self.repair, self.similarity, samples[seen_samples(len(samples)) :])

    @cached_property
    def _before(self) -> float:
        return replace(self._trials, repair=None).loss([])
