"""AllocationSteps: the steps that make of a model what an allocation decided to remove."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swm.builtin.stages.allocation_search import Removal
from swm.builtin.stages.block_removal import drops
from swm.builtin.steps.keep import KeepStep
from swm.builtin.steps.merge import MergeStep
from swm.builtin.steps.refit import RefitStep
from swm.depth.engine import DepthEngine
from swm.depth.program import ChannelCut
from swm.fitting.readers import refitted_readers
from swm.interfaces.merger import LayerMerger
from swm.interfaces.stage import StageContext, Step
from swm.model.ranges import format_ranges
from swm.model.state import State
from swm.model.units import READERS, Part

KeptUnits = Mapping[ChannelCut, list[int]]
"""The channels that stay, ascending, by cut."""


@dataclass(frozen=True)
class AllocationSteps:
    """Makes steps; `units` are the channels that each cut keeps, `ridge` is that of the projections that read them."""

    context: StageContext
    engine: DepthEngine
    merger: LayerMerger
    units: KeptUnits
    ridge: float

    def of(self, removal: Removal) -> tuple[list[tuple[Step, State]], float | None]:
        """The steps, each with what was fitted for it, and the similarity of the merged model where that was asked."""
        states, similarity = self.engine.fitted(removal.windows) if self.merger.needs_activations else ({}, None)
        view = self.context.view
        steps: list[tuple[Step, State]] = [
            (MergeStep.of(view, window, self.merger), states.get(window, {})) for window in removal.windows
        ]
        steps += self._cuts(removal.cuts)
        if removal.gone:
            steps += [(drop, {}) for drop in drops(view, self.context.calibration.samples.text, removal.gone)]
        return steps, similarity

    def _cuts(self, cuts: Sequence[ChannelCut]) -> list[tuple[Step, State]]:
        """The steps that cut channels and refit the projections that read them, each with what was fitted for it."""
        view = self.context.view
        kept: dict[tuple[int, Part], list[int]] = {(cut[0], "mlp"): self.units[cut] for cut in cuts}
        refitted = refitted_readers(view, self.context.calibration.samples, kept, self.ridge)
        steps: list[tuple[Step, State]] = []
        for (position, part), channels in kept.items():
            layer = view.layer(position)
            steps.append((KeepStep(layer.number, part, format_ranges(channels), layer.units(part)), {}))
            steps.append((RefitStep(layer.number, READERS[part]), refitted[position, part]))
        return steps
