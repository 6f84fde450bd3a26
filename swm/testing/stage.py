"""What every stage must do."""

from __future__ import annotations

import torch

from swm.interfaces.stage import Stage, StagePlan
from swm.testing.checks import Parameters
from swm.testing.expect import expect, wrong
from swm.testing.model_checks import ModelChecks
from swm.testing.trial import state_of


class StageChecks(ModelChecks):
    """Checks of a stage. What it asks for (a target, say) stands in its parameters."""

    def stage(self, strategy: Stage) -> Stage:
        return strategy

    def test_it_plans_steps_that_are_registered(self, given: Parameters, family: str) -> None:
        planned = self.trial(given, family).planned
        if not isinstance(planned, StagePlan):
            wrong(f"{self.who(given)} plans a {type(planned).__name__}; it must be a swm.StagePlan")
        for step in planned.steps:
            known = step.name in self.registry.names("step") and self.registry.strategy("step", step.name) is type(step)
            expect(known, f"{self.who(given)} plans a step '{step.name}' that is not registered: register(YourStep)")

    def test_its_steps_do_all_that_it_does(self, given: Parameters, family: str) -> None:
        trial, view, _ = self.done(given, family)
        before = state_of(trial.fresh())
        after = state_of(view)
        moved = before.keys() != after.keys() or any(not torch.equal(before[k], v) for k, v in after.items())
        who = f"{self.who(given)} on a tiny {family}"
        expect(moved or not trial.planned.steps, f"{who} plans steps that change nothing")
        expect(bool(trial.planned.steps) or not moved, f"{who} changes the model without a step in its plan")
