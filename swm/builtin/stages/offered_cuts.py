"""OfferedCuts: the channel cuts that an allocation may be asked about, with the channels that each keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property, partial

from swm.builtin.stages.channel_cuts import CutSize
from swm.depth.engine import DepthEngine
from swm.depth.program import ChannelCut
from swm.fitting.readers import state_without_channels
from swm.interfaces.stage import StageContext
from swm.interfaces.width import WidthPruner
from swm.width.allocation import best_units
from swm.width.scoring import UnitScores, observed_scores


class OfferedCuts:
    """Offers cuts to an engine. `units` are the channels that stay, ascending, by cut: those that score highest."""

    def __init__(self, context: StageContext, engine: DepthEngine, pruner: WidthPruner, ridge: float) -> None:
        """`ridge` is that of the refits, in units of the mean squared input."""
        self.units: dict[ChannelCut, list[int]] = {}
        self._context, self._engine, self._pruner, self._ridge = context, engine, pruner, ridge

    @cached_property
    def _scored(self) -> UnitScores:
        return observed_scores(self._context, self._pruner, range(len(self._context.view.layers)), ("mlp",))

    def offer(self, cuts: Mapping[ChannelCut, CutSize]) -> None:
        """Let the engine be asked about these cuts too."""
        for cut, size in cuts.items():
            kept = best_units(self._scored.scores[cut[0], "mlp"], size.kept)
            self.units[cut] = kept
            settings = {
                "pruner": self._pruner.spec(),
                "seed": self._context.seed,
                "kept": len(kept),
                "ridge": self._ridge,
            }
            layer = self._context.view.layer(cut[0])
            self._engine.offer(cut, partial(state_without_channels, layer, kept, self._ridge), json.dumps(settings))
