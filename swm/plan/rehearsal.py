"""Applying a plan to the model without its weights, so that what does not fit is known before they are loaded."""

from __future__ import annotations

from swm.errors import PlanError, at, brief
from swm.model.view import ModelView
from swm.plan.plan import Plan


def rehearse(plan: Plan, empty: ModelView) -> bool:
    """Apply every step to `empty`, a model on the meta device, which it changes; whether all could be applied.

    Raises PlanError with the place of the first step that does not fit. A step whose arithmetic needs numbers ends the
    rehearsal without a word: it and those behind it are checked when they are applied.
    """
    try:
        apply_plan(plan, empty)
        return True
    except PlanError as error:
        if not isinstance(error.__cause__, NotImplementedError) and "meta" not in brief(error.__cause__ or error):
            raise
        return False


def apply_plan(plan: Plan, view: ModelView) -> None:
    """Change the model. Raises PlanError with the place of a step that does not fit, whatever it fails with."""
    for s, stage in enumerate(plan.stages):
        for i, step in enumerate(stage.steps):
            with at("stages", s, "steps", i, step.name):
                try:
                    step.apply(view, stage.tensors.get(i, {}))
                except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
                    raise PlanError(f"does not fit the model: {type(error).__name__}: {brief(error)}") from error
