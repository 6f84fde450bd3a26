"""CompressionPipeline: check everything, observe, plan, change, measure, save and verify."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import swm
from swm import checkpoint, models
from swm.budget import ModelShape, Target, achieved
from swm.calibration import Calibration, draw
from swm.card import model_card
from swm.errors import RecipeError, at
from swm.export import export
from swm.families import ModelFamily, find_family
from swm.generation import answers
from swm.interfaces.recovery import Recovery, RecoveryContext
from swm.interfaces.stage import Setting, Stage, StageContext, StagePlan
from swm.original import Original
from swm.perplexity import TokenWindows, cut_windows, perplexity
from swm.plan import Plan, PlannedStage
from swm.plugins import Plugins, load_plugins
from swm.progress import Progress, Silent
from swm.recipe import Recipe, build_recipe, load_recipe
from swm.report import environment, shape_now, write_json, write_yaml
from swm.units import widths
from swm.view import ModelView

PROBE_SAMPLES, PROBE_TOKENS = 2, 32


@dataclass
class RunResult:
    """What a run leaves: the compressed model in memory, its plan, the report, and the folder if one was written."""

    model: Any
    tokenizer: Any
    plan: Plan
    report: dict[str, Any]
    output: Path | None


@dataclass
class Prepared:
    """All that a run needs and that costs little, checked."""

    source: models.ModelSource
    config: Any
    family: ModelFamily
    shape: ModelShape
    tokenizer: Any
    calibration: Calibration | None
    """None while the model still has to write the text."""
    windows: TokenWindows | None
    output: Path | None
    original: Original


@dataclass
class CompressionPipeline:
    """Runs a recipe. Nothing heavy begins before everything that can be known to be wrong has been checked."""

    recipe: Recipe
    plugins: Plugins = field(default_factory=load_plugins)
    progress: Progress = field(default_factory=Silent)
    overwrite: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_file(cls, file: str | Path, overrides: Sequence[str] = (), **options: Any) -> CompressionPipeline:
        """A pipeline for a recipe file; `overrides` as in `--set`."""
        recipe, plugins = load_recipe(file, overrides)
        return cls(recipe, plugins, **options)

    def prepare(self) -> Prepared:
        """Check the recipe against the machine and the model's config. Raises an SwmError, loads no weights."""
        recipe = self.recipe
        with at("output"):
            output = None if recipe.output is None else checkpoint.check_output(recipe.output, self.overwrite)
        with at("calibration", "text"):
            recipe.calibration.text.check()
        protocol = recipe.evaluate.perplexity
        if protocol is not None:
            with at("evaluate", "perplexity", "text"):
                protocol.text.check()
        with at("device"):
            models.pick_device(recipe.device)
        with at("device_map"):
            models.check_device_map(recipe.device_map)
        with at("model"):
            source = models.locate(recipe.model, self.plugins.registry, self.progress)
            config = models.load_config(source, recipe.trust_remote_code)
            family = find_family(config, self.plugins.registry.families)
            empty = models.empty_view(config, self.plugins.registry.families, recipe.trust_remote_code)
            shape = shape_now(empty)
        if output is not None:
            with at("output"):
                checkpoint.check_apart(output, source.folder)
        longest = getattr(config, "max_position_embeddings", None)
        for name, length in [
            ("calibration.seq_len", recipe.calibration.seq_len),
            ("evaluate.perplexity.seq_len", protocol.seq_len if protocol else 0),
        ]:
            if longest is not None and length > longest:
                raise RecipeError(f"found {length}; the model takes at most {longest} tokens", tuple(name.split(".")))
        text = recipe.calibration
        first = True
        for i, stage in enumerate(recipe.stages):
            # What a later stage must remove depends on what the earlier ones remove.
            goal = self._share(i, stage, shape, 0) if first else None
            with at("stages", i, stage.name):
                self._check_order(i, stage, output)
                aimed = stage.with_target(Target(params=goal)) if goal else stage
                aimed.check(Setting(shape, family, config, text.samples, text.seq_len, empty, first))
            first = first and goal == 0
        with at("model"):
            if recipe.device_map is None:
                models.check_memory(shape, recipe.dtype, config, recipe.device)
            tokenizer = models.load_tokenizer(source, recipe.trust_remote_code)
        original = Original(self._loader(source), family, tokenizer, self.progress)
        calibration = None if recipe.calibration.text.from_model else self._calibration(original)
        with at("evaluate", "perplexity"):
            windows = None if protocol is None else cut_windows(tokenizer, protocol)
        return Prepared(source, config, family, shape, tokenizer, calibration, windows, output, original)

    def _calibration(self, original: Original) -> Calibration:
        wanted = self.recipe.calibration
        with at("calibration"):
            return draw(
                original.tokenizer,
                original.text(wanted.text),
                samples=wanted.samples,
                seq_len=wanted.seq_len,
                seed=self.recipe.seed,
                bos=wanted.bos,
            )

    def _loader(self, source: models.ModelSource) -> Callable[[], Any]:
        recipe = self.recipe
        return lambda: models.load_model(
            source,
            dtype=recipe.dtype,
            device=recipe.device,
            device_map=recipe.device_map,
            trust_remote_code=recipe.trust_remote_code,
        )

    def _check_order(self, index: int, stage: Stage, output: Path | None) -> None:
        """Raise RecipeError for stages that cannot follow one another, and for a result that could not be saved."""
        if stage.removes == "layers" and any(earlier.uneven() for earlier in self.recipe.stages[:index]):
            raise RecipeError(
                "layers of different widths cannot be merged; put depth before the stage with uniform: false"
            )
        if stage.uneven() and output is not None and self.recipe.layout == "native":
            raise RecipeError(
                "uniform: false gives layers different widths, which layout: native cannot hold; add layout: padded "
                "(loads everywhere, no gain in size) or layout: custom (true sizes, loads with trust_remote_code)"
            )

    def plan(self) -> Plan:
        """Decide everything; measure and save nothing. All but the last stage are applied in memory."""
        ready = self.prepare()
        view = self.load(ready)
        return self.decide(ready, view, apply_last=False)

    def run(self) -> RunResult:
        """The whole recipe."""
        ready = self.prepare()
        view = self.load(ready)
        report = self._begin_report(ready)
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
        self._save(ready, view, plan, report)
        self.plugins.manager.hook.swm_run_finished(report=report)
        return RunResult(view.model, ready.tokenizer, plan, report, ready.output)

    def load(self, ready: Prepared) -> ModelView:
        """Seed everything, load the weights, and draw the calibration text if the model itself writes it."""
        random.seed(self.recipe.seed)
        np.random.seed(self.recipe.seed)
        torch.manual_seed(self.recipe.seed)
        with self._timed("load", "load the model"), at("model"):
            view = ModelView(ready.original.load(), ready.family)
        texts = [self.recipe.calibration.text, *(text for stage in self.recipe.stages for text in stage.texts())]
        with self._timed("meet"):
            ready.original.meet(view, texts)
        if ready.calibration is None:
            ready.calibration = self._calibration(ready.original)
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
        if len(self.recipe.stages) > 1:
            # Later stages compare with the model as it was before the first one.
            context.reference = view.record(ready.calibration.ids).states[-1]
        for i, stage in enumerate(self.recipe.stages):
            context.recovery = partial(self._recovery, ready.original, view, i)
            last = i == len(self.recipe.stages) - 1
            goal = self._share(i, stage, ready.shape, ready.shape.parameters - view.parameters())
            stages.append(self._stage(i, stage, goal, context, apply=apply_last or not last))
        return Plan(identity, stages, ready.calibration.record(), self.recipe.seed)

    def _recovery(self, original: Original, view: ModelView, index: int, recovery: Recovery) -> RecoveryContext:
        hook = self.plugins.manager.hook.swm_training_step
        return original.recovery(
            view, recovery, self.recipe.seed, lambda step, loss: hook(stage_index=index, step=step, loss=loss)
        )

    def _share(self, index: int, stage: Stage, original: ModelShape, removed: int) -> int | None:
        """The stage's part of the recipe's budget, in parameters; None if it has a target of its own."""
        budget = self.recipe.budget
        if budget is None or not stage.wants_target():
            return None
        waiting = [s.removes for s in self.recipe.stages[index:] if s.wants_target()]
        return max(round(budget.for_next(waiting, original, removed)), 0)

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

    def _begin_report(self, ready: Prepared) -> dict[str, Any]:
        protocol = self.recipe.evaluate.perplexity
        notes: list[str] = []
        text = self.recipe.calibration.text
        if protocol is not None and protocol.text == text and not text.separates():
            notes.append("calibration and perplexity read the same text, so the perplexity flatters the result")
        return {
            "swm": swm.__version__,
            "model": {
                "source": ready.source.name,
                "parameters": ready.shape.parameters,
                "layers": ready.shape.layers,
            },
            "seed": self.recipe.seed,
            "calibration": ready.calibration.record() if ready.calibration else {},
            "environment": environment(),
            "notes": notes,
        }

    def _measure(self, ready: Prepared, view: ModelView, report: dict[str, Any], which: str) -> None:
        evaluate = self.recipe.evaluate
        if ready.windows is not None:
            with self._timed(f"perplexity {which}"):
                result = perplexity(view.model, ready.windows, self.progress, f"perplexity, {which}")
            report.setdefault("perplexity", {})[which] = result
        if evaluate.prompts:
            with self._timed(f"answers {which}", f"answers, {which}"):
                replies = answers(view.model, ready.tokenizer, evaluate.prompts, evaluate.max_new_tokens)
            report.setdefault("answers", {"prompts": list(evaluate.prompts)})[which] = replies

    def _save(self, ready: Prepared, view: ModelView, plan: Plan, report: dict[str, Any]) -> None:
        assert ready.calibration is not None
        ids = ready.calibration.ids[:PROBE_SAMPLES, :PROBE_TOKENS]
        if ready.output is None:
            checkpoint.probe(view.model, ids)
            return

        def extras(folder: Path, verification: dict[str, Any]) -> None:
            report["verification"] = verification
            plan.write(folder / "plan.yaml")
            write_yaml(folder / "recipe.yaml", self.recipe.resolved())
            write_json(folder / "report.json", report)
            # Apart from the report, so that the same recipe gives the same bytes in every other file.
            write_json(folder / "timing.json", {k: round(v, 3) for k, v in self.seconds.items()})
            (folder / "README.md").write_text(model_card(report, plan), encoding="utf-8")

        with self._timed("save", "save, reload in a fresh process, compare"):
            exported = export(view, self.recipe.layout)
            checkpoint.save(view.model, ready.source.folder, ready.output, ids, extras, self.overwrite, exported)

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
