"""Budgets and limits in a run: what is checked before weights are loaded, and what a stage made of its target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swm.costs.cost import CostUnit
from swm.errors import BudgetError, RecipeError
from swm.interfaces.stage import Stage
from swm.interfaces.target import Target
from swm.model.shape import ModelShape
from swm.model.view import ModelView
from swm.recipe.recipe import Recipe

# Layouts in which what a stage removed takes as much as before.
FILLED = ("padded", "merged")


def limit_of(stage: Stage) -> Target | None:
    """The target of a stage that says what the result has at most; None for another, or none."""
    target = getattr(stage, "target", None)
    return target if isinstance(target, Target) and target.limited is not None else None


def budgeted(recipe: Recipe, index: int, shape: ModelShape, first: bool) -> tuple[Stage, bool]:
    """A stage with its share of the budget as far as that is known beforehand, and whether that is nothing.

    What a later stage must remove depends on what the earlier ones remove, but not in which unit.

    Args:
        recipe: The recipe.
        index: The position of the stage.
        shape: The shape of the original model, with the model.
        first: Whether no stage before it removes anything.
    """
    stage, budget = recipe.stages[index], recipe.budget
    limited = budget is not None and budget.limited is not None
    part = None if shape.model is None else recipe.round_target(index, shape, shape.model)
    if part is not None:
        return stage.with_target(part), False
    if shape.model is None or not (first or limited):
        return stage, False
    target = recipe.budget_target(index, shape, shape.model)
    if target is None:
        return stage, False
    if first and target.goal(shape, shape.model).amount <= 0:
        if budget is not None and limited:
            budget.too_much(shape, shape.model).check_asks()
        return stage, True
    return stage.with_target(target), False


def check_layout_saves(recipe: Recipe, index: int, output: Path | None) -> None:
    """Raise RecipeError for a limit that a server would not feel, because the layout fills up what went."""
    stage, budget = recipe.stages[index], recipe.budget
    own = limit_of(stage)
    name = own.limited if own is not None else budget.limited if budget is not None and stage.wants_target() else None
    if name is None or output is None or recipe.layout not in FILLED:
        return
    if stage.uneven() or "blocks" in stage.removed_kinds() or stage.replaces:
        raise RecipeError(
            f"layout: {recipe.layout} puts zeros or whole matrices in place of what this stage removes, so the folder "
            f"would not keep to a limit in {name}; use another layout, or a target in params or ratio"
        )


@dataclass(frozen=True)
class LimitWatch:
    """Whether a stage keeps to the limit that its target sets: the model has `before`, of which `amount` must go."""

    target: Target
    unit: CostUnit
    before: float
    amount: float

    @classmethod
    def of(cls, stage: Stage, original: ModelShape, view: ModelView) -> LimitWatch | None:
        """The watch of a stage; None where its target is no limit."""
        target = limit_of(stage)
        if target is None:
            return None
        goal = target.goal(original, view)
        return cls(target, goal.unit, goal.cost.total, goal.amount)

    def planned(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What the report says of the limit, from the facts of a plan that has not been carried out."""
        said = {
            "unit": self.target.limited,
            "at_most": _number(self.before - self.amount),
            **self.target.conditions(),
            "before": _number(self.before),
        }
        saving = facts.get("planned_saving", 0.0 if "skipped" in facts else None)
        return said if saving is None else {**said, "planned": _number(self.before - saving)}

    def reached(self, view: ModelView) -> float:
        """What the changed model has. Raises BudgetError where that is more than the limit."""
        unit = self.unit
        after, most = unit.of(view).total, self.before - self.amount
        # What only seems more is rounding of sums of fractions.
        if self.amount > 0 and after > most * (1 + 1e-9):
            raise BudgetError(
                f"the result has {unit.written(after)}, and target {self.target} allows {unit.number(most)}: what "
                "the stage adds, such as biases that make up for what goes, or rounds, takes room too; lower it",
                ("target",),
            )
        return _number(after)


def _number(value: float) -> float:
    """Whole numbers as such; shares to six digits."""
    return int(value) if value == int(value) else round(value, 6)


def budget_reached(recipe: Recipe, original: ModelShape, view: ModelView) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the recipe's budget asks of the result, and what that has, in the budget's unit; empty without a budget.

    Args:
        recipe: The recipe.
        original: The shape of the original model.
        view: The compressed model.

    Raises:
        BudgetError: The result has more than its budget allows.
    """
    budget = recipe.budget
    if budget is None:
        return {}, {}
    if budget.limited is None:
        target = budget.parameters(original)
        return {"params": round(target), "ratio": round(target / original.parameters, 6)}, {}
    goal, most = budget.too_much(original, view), budget.ceiling(original, view)
    if not goal.met(0.0) and goal.amount > 1e-9 * most:
        raise BudgetError(
            f"the result has {goal.unit.written(goal.cost.total)}, and the budget allows {goal.unit.number(most)}; "
            "depth_share leaves no stage that could remove the rest",
            ("budget",),
        )
    asked = {budget.limited: _number(most), **budget.conditions()}
    dense = {} if original.model is None else {"dense": _number(goal.unit.of(original.model).total)}
    return {**asked, **dense}, {budget.limited: _number(goal.cost.total)}


def measured_share(recipe: Recipe, speed: Mapping[str, Any]) -> dict[str, float]:
    """The measured share of the dense decode time beside the predicted one; empty where no budget asks for it.

    Args:
        recipe: The recipe.
        speed: What `measure_speed` found; empty where nothing was measured.
    """
    asked = recipe.budget is not None and recipe.budget.latency is not None
    rows = [row for row in speed.get("decode", ()) if row["batch"] == 1 and "ratio" in row] if asked else []
    return {"latency_measured": round(1 / rows[0]["ratio"]["median"], 6)} if rows else {}
