"""CompressionPipeline: check everything, observe, plan, change, measure, save and verify."""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swm.cache.observations import Observation, ObservationCache, Observed
from swm.checkpoint import saving as checkpoint
from swm.checkpoint.export import export
from swm.errors import at
from swm.files.published import INPUTS, PRIVATE, absolute_paths, published
from swm.files.writing import write_json, write_text, write_yaml
from swm.interfaces.progress import Progress, Silent
from swm.interfaces.recovery import Recovery, RecoveryContext
from swm.interfaces.stage import Stage, StageContext, StagePlan
from swm.interfaces.target import Target
from swm.loading import models
from swm.measure.speed import measure_speed, speed_of
from swm.model.shape import achieved, shape_now, widths
from swm.model.view import ModelView
from swm.plan.plan import Plan, PlannedStage
from swm.plugins.foreign import no_exit
from swm.plugins.loading import Plugins, load_plugins
from swm.processes import ranks as processes
from swm.provenance.dependencies import about_model, code_of, machine
from swm.recipe.loading import load_recipe
from swm.recipe.recipe import Recipe, build_recipe
from swm.report.card import model_card
from swm.report.environment import environment, machine_name
from swm.report.html_report import html_report
from swm.run.original import Original
from swm.run.preparation import Prepared, draw_calibration, prepare, share
from swm.run.tracking import tracked
from swm.version import __version__

PROBE_SAMPLES, PROBE_TOKENS = 2, 32


@dataclass
class RunResult:
    """What a run leaves: the compressed model, its plan, the report, the folder if one was written, and the speed."""

    model: Any
    tokenizer: Any
    plan: Plan
    report: dict[str, Any]
    output: Path | None
    speed: dict[str, Any] = field(default_factory=dict)


@dataclass
class CompressionPipeline:
    """Runs a recipe. Nothing heavy begins before everything that can be known to be wrong has been checked."""

    recipe: Recipe
    plugins: Plugins = field(default_factory=load_plugins)
    progress: Progress = field(default_factory=Silent)
    overwrite: bool = False
    inputs: Sequence[str | Path] = ()
    """Files besides those in the recipe that must not lie in the output folder."""
    written: Sequence[Path] = ()
    """Files that the caller will write, which must not lie inside the model."""
    observations: ObservationCache | None = None
    """Where observations are kept and looked up; None for neither."""
    dense: Mapping[str, Any] = field(default_factory=dict)
    """What is known of the original model by an earlier run with the same recipe: `fingerprint` and measurements."""
    seconds: dict[str, float] = field(default_factory=dict)
    speed: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def from_file(cls, file: str | Path, overrides: Sequence[str] = (), **options: Any) -> CompressionPipeline:
        """A pipeline for a recipe file; `overrides` as in `--set`."""
        recipe, plugins = load_recipe(file, overrides)
        return cls(recipe, plugins, **{"inputs": [file], **options})

    def prepare(self) -> Prepared:
        """Check the recipe against the machine and the model's config. Raises an SwmError, loads no weights."""
        return prepare(self.recipe, self.plugins, self.progress, self.overwrite, self.inputs, self.written)

    @no_exit()
    def plan(self) -> Plan:
        """Decide everything; measure and save nothing. All but the last stage are applied in memory."""
        ready = self.prepare()
        view = self.load(ready)
        plan = self.decide(ready, view, apply_last=False)
        ready.original.forget_trainings()
        return plan

    @no_exit()
    def run(self) -> RunResult:
        """The whole recipe. Of several processes, the first measures, saves and reports; the others help to train."""
        if not processes.is_first():
            self.recipe = dataclasses.replace(self.recipe, output=None, trackers=())
            ready = self.prepare()
            view = self.load(ready)
            return RunResult(view.model, ready.tokenizer, self.decide(ready, view, apply_last=True), {}, None)
        ready = self.prepare()
        self.notes = []
        with tracked(self.plugins.manager, self.recipe.trackers, self.notes):
            self.plugins.manager.hook.swm_run_started(recipe=self.recipe.resolved())
            return self._run(ready)

    def _run(self, ready: Prepared) -> RunResult:
        view = self.load(ready)
        report = self._begin_report(ready, view)
        self._measure(ready, view, report, "dense")
        plan = self.decide(ready, view, apply_last=True)
        report["model"]["fingerprint"] = plan.model["fingerprint"]
        report["stages"] = [
            {
                "stage": stage.stage,
                "settings": stage.settings,
                "facts": stage.facts,
                "steps": len(stage.steps),
            }
            for stage in plan.stages
        ]
        after = shape_now(view)
        report["compressed"] = {"parameters": after.parameters, "layers": after.layers, "widths": widths(view)}
        if self.recipe.budget is not None:
            goal = self.recipe.budget.parameters(ready.shape)
            report["target"] = {"params": round(goal), "ratio": round(goal / ready.shape.parameters, 6)}
        report["achieved"] = achieved(ready.shape, ready.shape, after)
        self._measure(ready, view, report, "compressed")
        self._measure_speed(ready, view)
        self._save(ready, view, plan, report)
        # Until here a run that is killed finds its trained weights again.
        ready.original.forget_trainings()
        self.plugins.manager.hook.swm_run_finished(report=report)
        return RunResult(view.model, ready.tokenizer, plan, report, ready.output, self.speed)

    def load(self, ready: Prepared) -> ModelView:
        """Seed everything, load the weights, and draw the calibration text if the model itself writes it."""
        random.seed(self.recipe.seed)
        np.random.seed(self.recipe.seed)
        torch.manual_seed(self.recipe.seed)
        ready.original.notes = self.notes
        with self._timed("load", "load the model"), at("model"):
            view = ModelView(ready.original.load(), ready.family)
        texts = [self.recipe.calibration.text, *(text for stage in self.recipe.stages for text in stage.texts())]
        with self._timed("meet"):
            ready.original.meet(view, texts)
        if ready.calibration is None:
            ready.calibration = draw_calibration(self.recipe, ready.original)
        return view

    def decide(self, ready: Prepared, view: ModelView, apply_last: bool) -> Plan:
        """Plan the stages one after the other, each on the model as the earlier ones left it."""
        assert ready.calibration is not None
        identity = {
            "source": ready.source.name,
            "fingerprint": ready.original.fingerprint,
            "model_type": view.config.model_type,
            "dtype": str(next(view.model.parameters()).dtype).removeprefix("torch."),
            "layers": ready.shape.layers,
            "parameters": ready.shape.parameters,
        }
        stages: list[PlannedStage] = []
        context = StageContext(view, ready.calibration, ready.shape, self.recipe.seed, self.progress)
        context.dense = ready.original.view
        fingerprint = ready.original.fingerprint
        context.observed = self._observed(ready, view, None, fingerprint)
        if len(self.recipe.stages) > 1:
            # Later stages compare with the model as it was before the first one.
            context.reference = self._last_hidden(context)
        for i, stage in enumerate(self.recipe.stages):
            context.recovery = partial(self._recovery, ready.original, view, i)
            last = i == len(self.recipe.stages) - 1
            goal = share(self.recipe, i, ready.shape, ready.shape.parameters - view.parameters())
            if i and self.observations is not None:
                fingerprint = view.fingerprint()
            context.observed = self._observed(ready, view, stage, fingerprint)
            stages.append(self._stage(i, stage, goal, context, apply=apply_last or not last))
        return Plan(identity, stages, ready.calibration.record(), self.recipe.seed)

    def _observed(self, ready: Prepared, view: ModelView, stage: Stage | None, fingerprint: str) -> Observed | None:
        """What is kept of this model and text for a stage, whose own code counts; None where nothing can be."""
        assert ready.calibration is not None
        about, code = about_model(view), code_of([] if stage is None else [stage])
        if self.observations is None or about is None or code is None:
            return None
        return Observed(
            self.observations,
            {
                "model": fingerprint,
                "original": ready.original.fingerprint,
                "text": ready.calibration.fingerprint,
                "seed": self.recipe.seed,
                "code": code,
                **about,
                **machine(),
            },
        )

    def _last_hidden(self, context: StageContext) -> Tensor:
        def record() -> Observation:
            return Observation({"states": context.view.record(context.calibration.ids).states[-1]})

        return context.observation({"what": "last hidden states"}, record).tensors["states"].to(context.view.device)

    def _recovery(self, original: Original, view: ModelView, index: int, recovery: Recovery) -> RecoveryContext:
        hook = self.plugins.manager.hook.swm_training_step
        return original.recovery(
            view,
            recovery,
            self.recipe.seed,
            lambda step, loss: hook(stage_index=index, step=step, loss=loss),
            keeps=True,
        )

    def _stage(self, index: int, stage: Stage, goal: int | None, context: StageContext, apply: bool) -> PlannedStage:
        hooks = self.plugins.manager.hook
        hooks.swm_stage_started(index=index, stage=stage)
        before = shape_now(context.view)
        with at("stages", index, stage.name), self._timed(f"stage {index} {stage.name}"):
            if goal is not None:
                stage = stage.with_target(Target(params=goal))
            idle = goal is not None and not stage.worth_while(context)
            planned = StagePlan([], {"skipped": "no budget left"}) if idle else stage.plan(context)
        spec = stage.spec()
        facts = dict(planned.facts)
        result = PlannedStage(spec.pop("name"), spec, planned.steps, facts, planned.tensors)
        if apply:
            with at("stages", index, stage.name), self._timed(f"perform {index} {stage.name}"):
                facts.update(stage.perform(planned, context))
            facts["achieved"] = achieved(context.original, before, shape_now(context.view))
        hooks.swm_stage_finished(index=index, stage=stage, facts=facts)
        return result

    def _begin_report(self, ready: Prepared, view: ModelView) -> dict[str, Any]:
        self.notes.extend(models.corrections(ready.source, ready.config))
        protocol = self.recipe.evaluate.perplexity
        text = self.recipe.calibration.text
        if protocol is not None and protocol.text == text and not text.separates():
            self.notes.append("calibration and perplexity read the same text, so the perplexity flatters the result")
        return {
            "swm": __version__,
            "model": {
                "source": ready.source.name,
                "parameters": ready.shape.parameters,
                "layers": ready.shape.layers,
                "widths": widths(view),
            },
            "seed": self.recipe.seed,
            "calibration": ready.calibration.record() if ready.calibration else {},
            "environment": environment(),
            "notes": self.notes,
        }

    def _measure(self, ready: Prepared, view: ModelView, report: dict[str, Any], which: str) -> None:
        start = {"answers": {"prompts": list(self.recipe.evaluate.prompts)}}
        known = self.dense if which == "dense" and self.dense.get("fingerprint") == ready.original.fingerprint else {}
        with self._timed(f"measure {which}"):
            for name, found in ready.evaluator.recall(known) if known else ready.evaluator.measure(view.model, which):
                if name == "perplexity" and math.isinf(found["value"]):
                    nats = found["nats_per_token"]
                    self.notes.append(f"the {which} model's perplexity is too large for a number: e^{nats:.4g}")
                report.setdefault(name, start.get(name, {}))[which] = found
                self.plugins.manager.hook.swm_measured(which=which, metrics={name: found})

    def _measure_speed(self, ready: Prepared, view: ModelView) -> None:
        """Both models one beside the other, so that a machine that slows down does so for both."""
        protocol = self.recipe.evaluate.speed
        if protocol is None:
            return
        pair = {"dense": ready.original.view().model, "compressed": view.model}
        with self._timed("measure speed"):
            self.speed = measure_speed(
                pair, view.config.vocab_size, protocol, self.progress, self.recipe.seed, tokenizer=ready.tokenizer
            )
        for which in pair:
            self.plugins.manager.hook.swm_measured(which=which, metrics={"speed": speed_of(self.speed, which)})

    def _save(self, ready: Prepared, view: ModelView, plan: Plan, report: dict[str, Any]) -> None:
        assert ready.calibration is not None
        ids = ready.calibration.ids[:PROBE_SAMPLES, :PROBE_TOKENS]
        if ready.output is None:
            checkpoint.probe(view.model, ids)
            return

        def extras(folder: Path, verification: dict[str, Any]) -> None:
            self.notes += verification.pop("left_out", [])
            report["verification"] = verification
            resolved = self.recipe.resolved()
            inputs = absolute_paths(resolved)
            hidden = [*inputs.values(), str(ready.source.folder.absolute())]
            recipe, shown = published(resolved, hidden), published(report, hidden)
            told = plan.published(hidden)
            told.write(folder / "plan.yaml")
            write_yaml(folder / "recipe.yaml", recipe)
            write_json(folder / "report.json", shown)
            # Apart from the report, so that the same recipe gives the same bytes in every other file.
            timing = {**{k: round(v, 3) for k, v in self.seconds.items()}, **self._speed()}
            write_json(folder / PRIVATE, {**timing, INPUTS: inputs, "machine": machine_name()})
            write_text(folder / "report.html", html_report(shown, told, timing, recipe))
            write_text(folder / "README.md", model_card(shown, told))

        with self._timed("save", "save, reload in a fresh process, compare"):
            exported = export(view, self.recipe.layout)
            checkpoint.save(
                view.model,
                ready.source.folder,
                ready.output,
                ids,
                extras,
                self.overwrite,
                exported,
                self.recipe.trust_remote_code,
            )

    def _speed(self) -> dict[str, Any]:
        return {"speed": self.speed} if self.speed else {}

    @contextmanager
    def _timed(self, name: str, label: str = "") -> Iterator[None]:
        start = time.perf_counter()
        if label:
            with self.progress.task(label):
                yield
        else:
            yield
        self.seconds[name] = time.perf_counter() - start


def compress(
    model: str,
    stages: Sequence[Mapping[str, Any] | Stage],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    plugin_files: Sequence[str] = (),
    **recipe: Any,
) -> RunResult:
    """Run a recipe given in Python: `stages` and the keywords are the recipe's keys."""
    plugins = load_plugins(plugin_files)
    built = build_recipe({"model": model, "stages": list(stages), **recipe}, plugins)
    return CompressionPipeline(built, plugins, progress or Silent(), overwrite).run()
