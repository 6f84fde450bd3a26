"""What every depth pruner must do."""

from __future__ import annotations

from collections.abc import Sequence

from swm.depth.engine import DepthEngine
from swm.errors import PlanError
from swm.interfaces.depth import DepthProposal, DepthPruner
from swm.interfaces.merger import LayerMerger
from swm.interfaces.similarity import SimilarityMetric
from swm.interfaces.stage import Stage, StageContext
from swm.model.windows import Window, check_windows, removed_layers
from swm.plugins.registry import require_interface
from swm.testing.checks import Parameters
from swm.testing.expect import expect, works, wrong
from swm.testing.model_checks import ModelChecks
from swm.testing.tiny import LAYERS
from swm.testing.trial import Trial


class WatchedEngine(DepthEngine):
    """Keeps whether layers were compared."""

    compared = False

    def compare(self, lower: int, upper: int) -> float:
        self.compared = True
        return super().compare(lower, upper)


class DepthChecks(ModelChecks):
    """Checks of a depth pruner."""

    def stage(self, strategy: DepthPruner) -> Stage:
        most = strategy.capacity(LAYERS)
        expect(
            most > 0,
            f"{strategy} can remove nothing from {LAYERS} layers; give checks_for parameters that protect less",
        )
        target = {"target": {"layers": min(2, most)}} if strategy.uses_target() else {}
        return self.stage_of(DepthPruner.kind, pruner=strategy, **target)

    def test_it_removes_as_many_layers_as_it_is_told_to(self, given: Parameters) -> None:
        pruner = self.build(given)
        capacity = pruner.capacity(LAYERS)
        expect(capacity < LAYERS, f"{self.who(given)}: capacity({LAYERS}) is {capacity}; one layer must stay")
        targets: Sequence[int | None] = range(1, capacity + 1) if pruner.uses_target() else [None]
        for target in targets:
            windows = self._windows(given, pruner, target)[1]
            gone = removed_layers(windows)
            right = gone == target if target is not None else gone <= capacity
            says = ", ".join(map(str, windows))
            expect(right, f"{self.who(given)} is told to remove {target} of {LAYERS} layers and removes {gone}: {says}")

    def test_it_says_what_it_asks_for(self, given: Parameters) -> None:
        pruner = self.build(given)
        engine, _ = self._windows(given, pruner, min(2, pruner.capacity(LAYERS)) if pruner.uses_target() else None)
        expect(
            pruner.compares_layers or not engine.compared,
            f"{self.who(given)} calls context.compare; it must say compares_layers = True",
        )
        effort = pruner.effort(LAYERS, 2)
        expect(effort is None or effort >= 0, f"{self.who(given)}: effort({LAYERS}, 2) is {effort}; a count or None")

    def _windows(
        self, given: Parameters, pruner: DepthPruner, target: int | None
    ) -> tuple[WatchedEngine, Sequence[Window]]:
        trial = Trial(lambda view: self.stage(pruner), self.families[0], self.registry, self.begin)
        engine = self._engine(pruner, trial.context(trial.fresh()), target)
        with works(f"{self.who(given)} with a target of {target} layers"):
            proposal = pruner.propose(engine)
        if not isinstance(proposal, DepthProposal):
            wrong(f"{self.who(given)} proposes a {type(proposal).__name__}; it must be a swm.DepthProposal")
        try:
            return engine, check_windows(proposal.windows, LAYERS)
        except PlanError as error:
            wrong(f"{self.who(given)} with a target of {target} layers: {error}")

    def _engine(self, pruner: DepthPruner, context: StageContext, target: int | None) -> WatchedEngine:
        similarity = self.registry.build(SimilarityMetric.kind, pruner.default_similarity)
        merger = self.registry.build(LayerMerger.kind, pruner.default_merger)
        return WatchedEngine(
            context, require_interface(SimilarityMetric, similarity), require_interface(LayerMerger, merger), target
        )
