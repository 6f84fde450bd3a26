"""How much to remove, said once, in the unit that the user thinks in: for a stage, or for the whole recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from swm.costs.cost import CostUnit
from swm.costs.goal import Goal
from swm.costs.limit import UNITS, ResultLimit
from swm.costs.sizes import Parameters
from swm.errors import BudgetError, RecipeError
from swm.model.shape import ModelShape
from swm.model.view import ModelView


@dataclass(frozen=True)
class Target(ResultLimit):
    """How much goes, or how much may be left. Exactly one.

    What goes: `layers`, `params`, `experts` (of each layer that has some) or `blocks` (attentions and MLPs), numbers,
    or `ratio`, a share of all parameters. What the result has at most: `memory` (weights and KV cache), `kv_cache`,
    `active_params` (those that a token passes) or `latency`, see the budget.
    """

    layers: Annotated[int, Field(ge=1)] | None = None
    params: Annotated[int, Field(ge=1)] | None = None
    ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    experts: Annotated[int, Field(ge=1)] | None = None
    blocks: Annotated[int, Field(ge=1)] | None = None

    def __post_init__(self) -> None:
        names = ("layers", "params", "ratio", "experts", "blocks", *UNITS)
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            said = " and ".join(given) or "nothing"
            raise ValueError(f"target needs exactly one of {', '.join(names)}; found {said}")
        self.check_limit()

    def __str__(self) -> str:
        said = ", ".join(f"{k}: {v}" for k, v in vars(self).items() if v is not None)
        return said if self.limited is None else f"at most {said}"

    def goal(self, original: ModelShape, view: ModelView) -> Goal:
        """How much must go from the model as it is.

        `original` is the shape of the model before the first stage. Raises as `parameters`.
        """
        if self.limited is None:
            unit: CostUnit = Parameters()
            return Goal(unit, unit.of(view), self.parameters(original))
        return self.too_much(original, view)

    def parameters(self, original: ModelShape) -> float:
        """The number of parameters to remove; for a target in layers that of average ones.

        Raises RecipeError for a target in experts or blocks, whose size depends on the model, and for one that says
        what may be left.
        """
        if self.limited is not None:
            raise RecipeError(
                f"{self.limited} says what the result may have at most, and the stage counts the parameters that go; "
                "use ratio or params"
            )
        if self.blocks is not None:
            raise RecipeError(
                "blocks are removed by a depth stage with unit: attention, mlp or any; use ratio or params"
            )
        if self.experts is not None:
            raise RecipeError("experts are removed by a width stage with units: [experts] alone; use ratio or params")
        if self.layers is not None:
            return self.layers * mean(original.layer_parameters)
        if self.params is not None:
            return self.params
        return (self.ratio or 0.0) * original.parameters

    def whole_layers(
        self, original: ModelShape, current: ModelShape, capacity: int, who: str, goal: Goal | None = None
    ) -> int:
        """The nearest number of whole layers, at least one; for a limit of the result enough of them.

        Args:
            original: The model before the first stage, of which a ratio is taken.
            current: The model as it is.
            capacity: How many layers can go.
            who: The name of the depth pruner, for the message.
            goal: How much must go, where the target is a limit.

        Raises:
            BudgetError: The depth pruner cannot remove that many of the current layers.
        """
        if goal is not None:
            return self._enough_layers(goal, current.layers, capacity, who)
        each = mean(current.layer_parameters)
        count = self.layers if self.layers is not None else max(1, round(self.parameters(original) / each))
        if count > capacity:
            most = max(0, capacity)
            raise BudgetError(
                f"target {self} asks to remove {count} of {current.layers} layers; '{who}' can remove at most "
                f"{most} here ({most * each / original.parameters:.1%} of the parameters)"
            )
        return count

    def _enough_layers(self, goal: Goal, layers: int, capacity: int, who: str) -> int:
        """As `whole_layers`, for a limit."""
        count = goal.whole(mean(goal.cost.layers) or 1.0)
        if count > max(capacity, 0):
            most = goal.cost.total - sum(sorted(goal.cost.layers)[-capacity:] if capacity > 0 else ())
            raise BudgetError(
                f"target {self}: {count} of {layers} layers would have to go; '{who}' can remove at most "
                f"{max(0, capacity)} here, which leaves {goal.unit.written(most)}"
            )
        return count


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)
