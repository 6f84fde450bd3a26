"""Planning the stages of a recipe, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from swm.cache.observations import Observation, ObservationCache, Observed
from swm.checkpoint.layout import LAYOUTS
from swm.errors import PlanError, at
from swm.interfaces.recovery import Recovery, RecoveryContext
from swm.interfaces.stage import Stage, StageContext, StagePlan
from swm.interfaces.target import Target
from swm.interfaces.text import Calibration
from swm.interfaces.tokens_used import TokensUsed
from swm.model.last_states import last_states
from swm.model.shape import achieved, shape_now
from swm.model.view import ModelView
from swm.plan.history import identity_of
from swm.plan.plan import Plan, PlannedStage
from swm.plugins.loading import Plugins
from swm.plugins.needs import needed_plugins
from swm.provenance.dependencies import about_model, code_of, machine
from swm.recipe.recipe import Recipe
from swm.run.budgeting import LimitWatch
from swm.run.preparation import Prepared
from swm.run.retokenizing import follow_vocabulary
from swm.run.shared_states import reference_samples, shared_names
from swm.run.stopwatch import Stopwatch


@dataclass(frozen=True)
class StagePlanner:
    """Plans each stage on the model as the earlier stages left it, and changes the model.

    `cache` holds what earlier runs observed; None where nothing is kept.
    """

    recipe: Recipe
    plugins: Plugins
    prepared: Prepared
    calibration: Calibration
    view: ModelView
    stopwatch: Stopwatch
    cache: ObservationCache | None = None
    in_time: Callable[[int, Stage], Stage] = lambda index, stage: stage
    """Gives a stage, by its position in the run, as it is to be carried out; asked when its turn comes."""

    def plan(self, apply_last: bool) -> Plan:
        """The plan of all stages; without `apply_last` the last one does not change the model."""
        original, stages = self.prepared.original, self.recipe.stages
        identity = identity_of(self.view, self.prepared.source.name, original.fingerprint)
        context = self._context()
        fingerprint = original.fingerprint
        planned: list[PlannedStage] = []
        for i, stage in enumerate(stages):
            context.recovery = partial(self._recovery, i)
            if i and self.cache is not None:
                fingerprint = self.view.fingerprint()
            context.observed = self._observed(stage, fingerprint)
            planned.append(self._stage(i, context, planned, apply=apply_last or i < len(stages) - 1))
            for name in context.shared.keys() - shared_names(stages[i + 1 :]):
                del context.shared[name]
        steps, kind, source = [stage.steps for stage in planned], identity["model_type"], identity["source"]
        needed = needed_plugins(steps, self.plugins.registry, kind, source)
        return Plan(identity, planned, self.calibration.record(), self.recipe.seed, plugins=needed)

    def _context(self) -> StageContext:
        """What all stages work with, before the first one."""
        original = self.prepared.original
        context = StageContext(
            self.view, self.calibration, self.prepared.shape, self.recipe.seed, self.stopwatch.progress
        )
        context.dense = partial(original.view, self.view)
        context.tokenizer, context.text = self.prepared.tokenizer, original.text
        context.needs = LAYOUTS[self.recipe.layout].needs
        context.observed = self._observed(None, original.fingerprint)
        read = reference_samples(self.recipe.stages, len(self.calibration.ids))
        if read:
            # Later stages compare with the model as it was before the first one.
            with self.stopwatch.timed("read original"):
                context.reference = self._last_hidden(context.first(read))
        return context

    def _observed(self, stage: Stage | None, fingerprint: str) -> Observed | None:
        """What is kept of this model and text for a stage, whose own code counts; None where nothing can be."""
        if self.cache is None:
            return None
        model, code = about_model(self.view), code_of([] if stage is None else [stage])
        if model is None or code is None:
            return None
        about = {
            "model": fingerprint,
            "original": self.prepared.original.fingerprint,
            "text": self.calibration.fingerprint,
            "seed": self.recipe.seed,
            "code": code,
            **model,
            **machine(),
        }
        return Observed(self.cache, about)

    def _last_hidden(self, context: StageContext) -> Tensor:
        def record() -> Observation:
            return Observation({"states": last_states(context.view, context.calibration.samples)})

        return context.observation({"what": "last hidden states"}, record).tensors["states"].to(context.view.device)

    def _recovery(self, index: int, recovery: Recovery) -> RecoveryContext:
        hook = self.plugins.manager.hook.swm_training_step
        context = self.prepared.original.recovery(
            self.view,
            recovery,
            self.recipe.seed,
            lambda step, loss: hook(stage_index=index, step=step, loss=loss),
            keeps=True,
        )
        rounds = self.recipe.rounds_of(index)
        context.turn = 0 if rounds is None else rounds.round_of(index)[0]
        return context

    def _target(self, index: int, earlier: Sequence[PlannedStage]) -> Target | None:
        """The target that a stage has not of itself: its part of the one for its rounds, or of the budget."""
        recipe, original = self.recipe, self.prepared.shape
        rounds = recipe.rounds_of(index)
        if rounds is None:
            return recipe.budget_target(index, original, self.view)
        gone = sum(stage.facts["achieved"]["params"] for stage in earlier[rounds.start :])
        part = recipe.round_target(index, original, self.view, gone)
        return recipe.budget_target(index, original, self.view) if part is None else part

    def _stage(self, index: int, context: StageContext, earlier: Sequence[PlannedStage], apply: bool) -> PlannedStage:
        """Plan one stage.

        Args:
            index: The position of the stage in the run.
            context: What it works with.
            earlier: The stages before it, as planned and done.
            apply: Whether the model is changed too.

        Returns:
            The steps of the stage with its settings and facts.
        """
        hooks, original = self.plugins.manager.hook, self.prepared.shape
        stage = self.in_time(index, self.recipe.stages[index])
        place, target = self.recipe.place(index), self._target(index, earlier)
        hooks.swm_stage_started(index=index, stage=stage)
        before, seen = shape_now(self.view), context.first(stage.seen_samples())
        with at(*place), self.stopwatch.timed(f"stage {index} {stage.name}"):
            stage = stage if target is None else stage.with_target(target)
            watch = LimitWatch.of(stage, original, self.view)
            idle = (target is not None or watch is not None) and not stage.worth_while(seen)
            left = "no budget left" if target is not None else "the model keeps to the target already"
            planned = StagePlan([], {"skipped": left}) if idle else _planned(stage, seen)
        spec, facts = stage.spec(), {**self._round(index), **planned.facts}
        if stage.reads_calibration and not idle:
            used = seen.calibration.tokens_used(stage.searched_samples())
            facts.setdefault(TokensUsed.KEY, [one.record() for one in used])
        if watch is not None:
            facts["limit"] = watch.planned(facts)
            facts.pop("planned_saving", None)
        result = PlannedStage(spec.pop("name"), spec, planned.steps, facts, planned.tensors)
        if apply:
            with at(*place), self.stopwatch.timed(f"perform {index} {stage.name}"):
                facts.update(stage.perform(planned, seen))
            facts["achieved"] = achieved(context.original, before, shape_now(self.view))
            if watch is not None:
                with at(*place):
                    facts["limit"]["after"] = watch.reached(self.view)
            if self.view.tokens is not None:
                with at(*place):
                    self._follow_vocabulary(context, self.recipe.stages[index + 1 :])
        hooks.swm_stage_finished(index=index, stage=stage, facts=facts)
        return result

    def _round(self, index: int) -> dict[str, str]:
        """What the report says of the round of a stage; nothing where it has none."""
        rounds = self.recipe.rounds_of(index)
        return {} if rounds is None else {"round": f"{rounds.round_of(index)[0] + 1} of {len(rounds)}"}

    def _follow_vocabulary(self, context: StageContext, later: Sequence[Stage]) -> None:
        """Give `later` stages the tokenizer and the ids of the vocabulary that is left."""
        if self.prepared.cut is None and self.view.tokens is not None and any(s.reads_calibration for s in later):
            context.calibration = context.calibration.renumbered(self.view.tokens)
        follow_vocabulary(self.prepared, self.view, self.recipe.trust_remote_code)
        context.tokenizer = self.prepared.tokenizer


def _planned(stage: Stage, context: StageContext) -> StagePlan:
    """What a stage decides. Raises PlanError where that is no plan."""
    planned: object = stage.plan(context)
    if not isinstance(planned, StagePlan):
        raise PlanError(f"stage '{stage.name}' returned a {type(planned).__name__}; plan() gives a StagePlan of steps")
    return planned
