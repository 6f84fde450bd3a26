"""Goal: how much must go from a model as it is, in some unit of cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from swm.costs.cost import CostUnit, ModelCost
from swm.errors import BudgetError, RecipeError, listed
from swm.model.units import UNIT_NAMES, Part


@dataclass(frozen=True)
class Goal:
    """So much goes, about; with `least` no less, because a limit of the result would be missed."""

    unit: CostUnit
    cost: ModelCost
    amount: float
    least: bool = False

    def check_asks(self) -> None:
        """Raise BudgetError where the model keeps to its limit already."""
        if self.least and self.amount <= 0:
            raise BudgetError(
                f"the model has {self.unit.written(self.cost.total)} already, which is no more than the target; "
                "nothing has to go, so leave the stage out or lower the target"
            )

    def check_parts(self, parts: Iterable[Part]) -> None:
        """Raise RecipeError for a part whose units lower nothing here, with what would."""
        lowering = self.cost.lowering()
        for part in parts:
            if part not in lowering:
                raise self._useless(f"units: {part} cannot", UNIT_NAMES[part])

    def check_some(self, what: str, savings: Iterable[float]) -> None:
        """Raise RecipeError where nothing that can go saves anything; `what` says in words what that is."""
        if max(savings, default=0) <= 0:
            raise self._useless("the stage cannot", what)

    def _useless(self, who: str, what: str) -> RecipeError:
        ways = [f"units: [{part}]" for part in self.cost.lowering()]
        return RecipeError(
            f"{who} meet this target: removing {what} does not lower {self.unit.whole}; what does: "
            f"{listed(['layers (depth)', *ways])}"
        )

    def parameters(self) -> float:
        """The goal as a number of parameters of which all tokens make use. Raises RecipeError for another unit."""
        if self.unit.per_parameter is None:
            raise RecipeError(
                f"the stage removes parameters alone, and the target is about {self.unit.noun}; use params, ratio or "
                "memory"
            )
        return self.amount / self.unit.per_parameter

    def whole(self, each: float) -> int:
        """How many things of this size meet the goal: the nearest number, or with `least` enough; at least one."""
        count = self.amount / each
        return max(1, math.ceil(count - 1e-9) if self.least else round(count))

    def met(self, saved: float) -> bool:
        """Whether it is enough that so much goes."""
        return not self.least or saved >= self.amount - 1e-9 * abs(self.amount)
