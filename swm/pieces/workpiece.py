"""Workpiece: a model object that one piece of a compression looks at or changes, with all that is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from swm.derivation.known_model import known_model
from swm.errors import PlanError, RecipeError, SwmError, quoted
from swm.interfaces.stage import Step
from swm.interfaces.text import Calibration
from swm.loading.empty_model import view_of
from swm.loading.given import GivenModel
from swm.loading.source import ModelSource
from swm.loading.tokenizer import load_tokenizer
from swm.model.families import ModelFamily
from swm.model.ranges import format_ranges
from swm.model.shape import shape_now
from swm.model.shared_copy import shared_copy
from swm.model.view import ModelView
from swm.pieces.calibrating import piece_text
from swm.plan.history import history_of, identity_of, note_history, view_with_history
from swm.plan.plan import Plan, PlannedStage
from swm.plan.rehearsal import apply_plan
from swm.plugins.loading import Plugins
from swm.plugins.needs import needed_plugins
from swm.run.taking import taken_object


@dataclass(frozen=True)
class Workpiece:
    """A model object of the user. `seed` is that of all draws."""

    given: GivenModel
    plugins: Plugins
    seed: int = 0

    @classmethod
    def of(cls, model: Any, plugins: Plugins, tokenizer: Any = None, seed: int = 0) -> Workpiece:
        """Take a model object.

        Args:
            model: The model object.
            plugins: The strategies and families that are known.
            tokenizer: Its tokenizer, where text is read.
            seed: The seed of all draws.

        Raises:
            ModelError: For what is no model object that swm can take.
        """
        return cls(taken_object(model, tokenizer), plugins, seed)

    @property
    def model(self) -> nn.Module:
        return self.given.model

    @cached_property
    def family(self) -> ModelFamily:
        """The family row of the model. Raises FamilyError where there is none, or the row does not fit the model."""
        noted = history_of(self.model)
        if noted is not None:
            return noted.family
        known = known_model(self.given.config, self.plugins.registry)
        return view_of(self.given.empty(), known.family).family

    def copy(self) -> ModelView:
        """A copy that shares the model's numbers, to look at and to try steps on."""
        return view_with_history(shared_copy(self.model), self.family)

    def calibration(self, text: Any) -> Calibration:
        """The text as token ids. Raises an SwmError for what is no text, or holds ids of another model."""
        source = ModelSource(type(self.model).__name__, self.given.folder, given=self.given)
        tokenizer = load_tokenizer(source, config=self.given.config)
        return piece_text(text, tokenizer, self.given.config, self.plugins.registry, self.seed)

    def perform(self, piece: str, settings: Mapping[str, Any], steps: Sequence[Step], **more: Any) -> Plan:
        """Change the model by these steps, or leave it as it is where one of them cannot be done.

        Args:
            piece: What did it, as the plan says it.
            settings: How, for the plan.
            steps: The steps.
            more: `facts`, `tensors` and `calibration` of the plan.

        Returns:
            The plan of these steps for the model as it was before the first piece.

        Raises:
            PlanError: A step does not fit the model, which stays as it was.
        """
        trial = self.copy()
        stage = PlannedStage(piece, settings, steps, more.get("facts", {}), more.get("tensors", {}))
        nothing = self.nothing_done(trial)
        kind, source = str(nothing.model["model_type"]), str(nothing.model["source"])
        needed = needed_plugins(steps, self.plugins.registry, kind, source)
        plan = replace(nothing, stages=[stage], calibration=more.get("calibration", {}), plugins=needed)
        return self._applied(plan, trial)

    def repeat(self, plan: Plan) -> Plan:
        """Change the model as a plan says that was made for it. Raises PlanError for another one."""
        trial = self.copy()
        own = self.nothing_done(trial).model
        if history_of(self.model) is not None or plan.model["fingerprint"] != own["fingerprint"]:
            raise PlanError(
                f"the plan is for {plan.model['source']} ({plan.model['fingerprint'][:12]}), this is {own['source']}"
            )
        trained = [stage.stage for stage in plan.stages if any(step.needs_data for step in stage.steps)]
        if trained:
            raise PlanError(f"stage '{trained[0]}' of the plan is a training, which needs its text")
        return self._applied(plan, trial)

    def nothing_done(self, view: ModelView) -> Plan:
        """A plan without steps for the model as it was before the first piece; `view` is the model as it is."""
        noted = history_of(self.model)
        if noted is not None:
            return Plan(noted.plan.model, [], {}, self.seed)
        fingerprint = view.fingerprint()
        name = f"{type(self.model).__name__} in memory, sha256 {fingerprint[:16]}"
        return Plan(identity_of(view, name, fingerprint), [], {}, self.seed)

    def _applied(self, plan: Plan, trial: ModelView) -> Plan:
        """Apply a plan to the model, once a copy has shown that all of its steps can be done."""
        noted = history_of(self.model)
        shape = shape_now(trial) if noted is None else noted.shape
        notes = () if noted is None else noted.changes(trial, plan.stages[0].stage if plan.stages else "a plan")
        try:
            apply_plan(plan, trial)
        except SwmError as error:
            raise PlanError(error.message) from error
        with mode_kept(self.model):
            view = view_with_history(self.model, self.family)
            apply_plan(plan, view)
            note_history(view, plan if noted is None else Plan.joined([noted.plan, plan]), shape, notes=notes)
        return plan


@contextmanager
def mode_kept(model: nn.Module) -> Iterator[None]:
    """Each module is in training or in evaluation mode as before the block; new ones are as the model is."""
    modules = list(model.modules())
    before, whole = {id(module): module.training for module in modules}, model.training
    try:
        yield
    finally:
        for module in model.modules():
            module.training = before.get(id(module), whole)


def positions_of(view: ModelView, numbers: Sequence[Any], *path: str | int) -> list[int]:
    """Where the layers with these original numbers stand now. Raises PlanError for one that the model has not."""
    for i, number in enumerate(numbers):
        if isinstance(number, bool) or not isinstance(number, int):
            raise RecipeError(f"found {quoted(number)}; a layer is a whole number", (*path, i))
        if number not in view.numbers:
            raise PlanError(f"found {number}; the model has layers {format_ranges(view.numbers)}", (*path, i))
    return [view.numbers.index(number) for number in numbers]


def whole_numbers(value: Any, *path: str | int) -> list[int]:
    """A list of whole numbers, from a list, a range, a set or a tensor. Raises RecipeError for anything else."""
    if isinstance(value, Tensor) or hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        raise RecipeError(f"found {quoted(value)}; a list of whole numbers stands here", path)
    numbers = list(value)
    for i, number in enumerate(numbers):
        if isinstance(number, bool) or not isinstance(number, int):
            raise RecipeError(f"found {quoted(number)}; a whole number stands here", (*path, i))
    return numbers
