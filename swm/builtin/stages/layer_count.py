"""How many whole layers a `depth` stage removes, and the pruner's choice of so many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from swm.costs.goal import Goal
from swm.depth.engine import DepthEngine
from swm.errors import BudgetError
from swm.interfaces.depth import DepthProposal, DepthPruner
from swm.interfaces.merger import LayerMerger, remaining_layers
from swm.interfaces.stage import Setting
from swm.interfaces.target import Target
from swm.model.families import ModelFamily
from swm.model.shape import ModelShape
from swm.model.view import ModelView


@dataclass(frozen=True)
class LayerCount:
    """The number of layers that a target asks of a pruner; without a target the pruner decides."""

    pruner: DepthPruner
    target: Target | None

    def check(self, setting: Setting) -> None:
        """Raise an SwmError for a target that whole layers of the original model cannot meet. Needs no weights."""
        goal = None if setting.model is None else self.limit(setting.shape, setting.model)
        if goal is not None:
            goal.check_some("a layer", goal.cost.layers)
            if not setting.first:
                # What is left to do depends on earlier stages.
                return
            goal.check_asks()
        if goal is not None or self.target is None or self.target.limited is None:
            self.count(setting.shape, setting.shape, setting.family, setting.config, goal)

    def limit(self, original: ModelShape, view: ModelView) -> Goal | None:
        """What must go of the model as it is where the target says what may be left; None for another target."""
        limited = self.target is not None and self.target.limited is not None
        return self.target.goal(original, view) if limited and self.target is not None else None

    def count(
        self, original: ModelShape, current: ModelShape, family: ModelFamily, config: Any, goal: Goal | None = None
    ) -> int | None:
        """How many layers go; None where the pruner decides.

        Args:
            original: The shape of the model before the first stage.
            current: Its shape now.
            family: Its row, which says how many first layers are bound to their place.
            config: The config of the whole model.
            goal: As `limit` gives it.

        Raises:
            BudgetError: So many cannot go.
        """
        capacity, protected = self._capacity(current.layers, family, config)
        if self.target is None:
            if capacity < 1:
                raise BudgetError(f"'{self.pruner.name}' can remove nothing from {current.layers} layers{protected}")
            return None
        try:
            return self.target.whole_layers(original, current, capacity, self.pruner.name, goal)
        except BudgetError as error:
            raise BudgetError(f"{error}{protected}") from None

    def _capacity(self, layers: int, family: ModelFamily, config: Any) -> tuple[int, str]:
        """How many of so many layers can go, and what protects some of them, in words."""
        bound = family.bound_layers(config)
        protected = f"; the first {bound} are protected, see {family.bound_first} in the config" if bound else ""
        return min(self.pruner.capacity(layers), layers - bound - self.pruner.protect_last), protected

    def propose(self, engine: DepthEngine, merger: LayerMerger, goal: Goal | None) -> DepthProposal:
        """The pruner's windows; with a limit more of them, one by one, until they are enough.

        Args:
            engine: What the pruner asks.
            merger: How a window becomes one layer.
            goal: As `limit` gives it.

        Raises:
            BudgetError: No number of layers is enough.
        """
        proposal = self.pruner.proposed(engine)
        view = engine.view
        capacity, protected = self._capacity(engine.layers, view.family, view.model_config)
        while goal is not None and engine.target is not None and not engine.refusal:
            # Layers differ in what they cost, so it depends on the choice how many are enough.
            saved = self.saved(goal, engine.layers, merger, proposal)
            if goal.met(saved):
                break
            if engine.target >= capacity:
                raise BudgetError(
                    f"target {self.target}: without the {engine.target} layers that '{self.pruner.name}' would remove "
                    f"the model still has {goal.unit.written(goal.cost.total - saved)}{protected}"
                )
            engine.target += 1
            engine.commit([])
            proposal = self.pruner.proposed(engine)
        return proposal

    def saved(self, goal: Goal, layers: int, merger: LayerMerger, proposal: DepthProposal) -> float:
        """What goes with the windows of a proposal, in the goal's unit.

        Args:
            goal: As `limit` gives it.
            layers: How many layers there are.
            merger: How a window becomes one layer.
            proposal: The proposal.
        """
        stay = set(remaining_layers(merger, proposal.windows, layers))
        return sum(cost for position, cost in enumerate(goal.cost.layers) if position not in stay)
