"""CompressionPipeline: check everything, observe, plan, change, measure, save and verify."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swm.cache.observations import ObservationCache
from swm.checkpoint.export import check_layout
from swm.checkpoint.verification import probe
from swm.errors import at
from swm.interfaces.progress import Announcer, Progress, announce, usual_progress
from swm.interfaces.stage import Stage
from swm.model.view import ModelView
from swm.plan.history import note_history
from swm.plan.plan import Plan
from swm.plugins.guarding import no_exit
from swm.plugins.loading import Plugins, load_plugins
from swm.processes import ranks as processes
from swm.recipe.building import build_recipe
from swm.recipe.loading import load_recipe
from swm.recipe.recipe import Recipe
from swm.report.builder import ReportBuilder
from swm.report.judgement import judge, missed
from swm.report.record import Measures
from swm.run.beginning import begin_report, in_memory
from swm.run.budgeting import budget_reached, measured_share
from swm.run.calibrating import draw_calibration
from swm.run.estimates import estimate_sentence, estimated_seconds, measured_pace
from swm.run.measuring import RunMeasurements
from swm.run.planning import StagePlanner
from swm.run.preparation import Prepared, prepare
from swm.run.result import NO_OUTPUT, RunResult
from swm.run.retokenizing import probe_ids
from swm.run.saving import PROBE_SAMPLES, PROBE_TOKENS, SAVING, OutputFolder, RunRecord
from swm.run.stopwatch import Stopwatch
from swm.run.taking import recipe_of, taken_model, taken_pair, taken_recipe
from swm.run.tracking import tracked
from swm.shown.values import short_repr


@dataclass
class CompressionPipeline:
    """Runs a recipe. Nothing heavy begins before everything that can be known to be wrong has been checked."""

    recipe: Recipe
    plugins: Plugins = field(default_factory=load_plugins)
    progress: Progress = field(default_factory=usual_progress)
    overwrite: bool = False
    inputs: Sequence[str | Path] = ()
    """Files besides those in the recipe that must not lie in the output folder."""
    written: Sequence[Path] = ()
    """Files that the caller will write, which must not lie inside the model."""
    keep_rejected: bool = False
    """Whether a result that misses a limit of the recipe's `accept` is saved all the same."""
    observations: ObservationCache | None = None
    """Where observations are kept and looked up; None for neither."""
    dense: Mapping[str, Any] = field(default_factory=dict)
    """What is known of the original model by an earlier run with the same recipe: `fingerprint` and measurements."""
    seconds: dict[str, float] = field(default_factory=dict)
    estimated: dict[str, float | None] = field(default_factory=dict)
    """About how many seconds each stage was expected to take, by its number and name."""
    speed: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tracked: dict[str, str] = field(default_factory=dict)
    """Where people find the run in its trackers, by their names."""
    given: Any = None
    """A model object in place of the recipe's `model`, or a pair of it and its tokenizer; it stays as it is."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        self.given = taken_pair(self.given)
        self.recipe = recipe_of(self.recipe, self.given)

    @classmethod
    def from_file(
        cls, file: str | Path, overrides: Sequence[str] = (), model: Any = None, tokenizer: Any = None, **options: Any
    ) -> CompressionPipeline:
        """A pipeline for a recipe file.

        Args:
            file: The recipe.
            overrides: As in `--set`.
            model: A model object in place of the recipe's `model`.
            tokenizer: The tokenizer of that object.
            options: Other fields of the pipeline.
        """
        recipe, plugins = load_recipe(file, overrides)
        given = None if model is None and tokenizer is None else (model, tokenizer)
        return cls(recipe, plugins, **{"inputs": [file], "given": given, **options})

    def prepare(self) -> Prepared:
        """Check the recipe against the machine and the model's config. Raises an SwmError, loads no weights."""
        return prepare(self.recipe, self.plugins, self.progress, self.overwrite, self.inputs, self.written, self.given)

    @no_exit()
    def plan(self) -> Plan:
        """Decide everything; measure and save nothing. All but the last stage are applied in memory."""
        ready = self.prepare()
        self.notes = list(ready.notes)
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
        with tracked(self.plugins.manager, self.recipe.trackers, self.notes, ready.output) as tracking:
            self.plugins.manager.hook.swm_run_started(recipe=self.recipe.resolved())
            self.tracked = tracking.links()
            return self._run(ready)

    def _run(self, ready: Prepared) -> RunResult:
        if ready.output is None:
            announce(self.progress, f"nothing will be saved: {NO_OUTPUT}")
        view = self.load(ready)
        report = begin_report(self.recipe, ready, view, self.notes)
        measurements = RunMeasurements(
            self.recipe, self.plugins, ready, report, self._stopwatch(), self.notes, self.dense
        )
        measurements.measure(view, "dense")
        plan = self.decide(ready, view, apply_last=True)
        if ready.output is not None:  # before it is measured, which takes long
            check_layout(view, self.recipe.layout)
        report.add_fingerprint(plan.model["fingerprint"])
        report.add_stages(plan.stages)
        report.add_compressed(view, ready.shape, *budget_reached(self.recipe, ready.shape, view))
        measurements.note_vocabulary(view)
        measurements.measure(view, "compressed")
        self.speed = measurements.measure_speed(view) or self.speed
        report.data["achieved"] |= measured_share(self.recipe, self.speed)
        if self.recipe.accept is not None:
            report.add_acceptance(judge(self.recipe.accept, Measures.model_validate(report.data)))
        self._save(ready, view, plan, report)
        # Until here a run that is killed finds its trained weights again.
        ready.original.forget_trainings()
        self.plugins.manager.hook.swm_run_finished(report=report.data)
        note_history(view, plan, ready.shape, compare=ready.output is None)
        return RunResult(view.model, ready.tokenizer, plan, report.data, ready.output, self.speed)

    def load(self, ready: Prepared) -> ModelView:
        """Seed everything, load the weights, and draw the calibration text if the model itself writes it."""
        random.seed(self.recipe.seed)
        np.random.seed(self.recipe.seed)
        torch.manual_seed(self.recipe.seed)
        ready.original.notes = self.notes
        announce(self.progress, ready.memory.sentence())
        stopwatch = self._stopwatch()
        with stopwatch.timed("load", "load the model"), at("model"):
            view = ready.original.loaded()
        texts = [self.recipe.calibration.text, *(text for stage in self.recipe.stages for text in stage.texts())]
        with stopwatch.timed("meet"):
            ready.original.write_texts(view, texts)
        if ready.calibration is None:
            wanted, original = self.recipe.calibration, ready.original
            text = original.text(wanted.text)
            ready.calibration = draw_calibration(wanted, text, original.tokenizer, self.recipe.seed)
        return view

    def decide(self, ready: Prepared, view: ModelView, apply_last: bool) -> Plan:
        """Plan the stages one after the other, each on the model as the earlier ones left it."""
        calibration = ready.drawn_calibration()
        if processes.is_first():
            self._estimate(ready, view, calibration.ids)
        planner = StagePlanner(
            self.recipe, self.plugins, ready, calibration, view, self._stopwatch(), self.observations
        )
        return planner.plan(apply_last)

    def _estimate(self, ready: Prepared, view: ModelView, ids: Tensor) -> None:
        """Say about how long each stage will take, where somebody reads it."""
        if not isinstance(self.progress, Announcer) and ready.output is None:
            return
        with self._stopwatch().timed("estimate"):
            pace = measured_pace(view, ids)
        if pace is not None:
            self.estimated = estimated_seconds(ready.works, self.recipe.stages, pace, ids.numel())
            announce(self.progress, estimate_sentence(self.estimated))

    def _save(self, ready: Prepared, view: ModelView, plan: Plan, report: ReportBuilder) -> None:
        """Save everything; without an output only check that the model still gives finite scores."""
        recipe, text = self.recipe, ready.drawn_calibration().samples.text
        ids = probe_ids(text[:PROBE_SAMPLES, :PROBE_TOKENS], view)
        report.add_saved(False)
        if ready.output is None:
            probe(view.model, ids, memory=view.memory)
            return
        output = OutputFolder.of_run(recipe, ready, self.overwrite)
        where = in_memory(recipe, self.given)
        run = RunRecord(recipe.resolved(), self.seconds, self.speed, self.estimated, where, self.tracked)
        if missed(report.data.get("acceptance", {})) and not self.keep_rejected:
            output.save_without_model(plan, report, run)
            return
        with self._stopwatch().timed("save", SAVING[recipe.verify]):
            output.save(view, ids, plan, report, run)

    def _stopwatch(self) -> Stopwatch:
        return Stopwatch(self.progress, self.seconds)


def compress(
    model: Any,
    stages: Sequence[Mapping[str, Any] | Stage],
    *,
    tokenizer: Any = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    plugin_files: Sequence[str] = (),
    **recipe: Any,
) -> RunResult:
    """Run a recipe given in Python. A model object stays as it is: the result is another one.

    Args:
        model: A model object of transformers, a hub id, a folder, a GGUF file or a registered name.
        stages: The stages, as in a recipe or as instances.
        tokenizer: The tokenizer or processor of a model object; token ids without an output need none.
        overwrite: Whether an output folder of swm may be replaced.
        progress: Shows what is going on; None for lines in a notebook, and nothing elsewhere.
        plugin_files: Python files with strategies.
        recipe: The other keys of the recipe. Texts may be tensors of ids, strings, data sets or batches with masks.

    Returns:
        The compressed model, its plan and its report.

    Raises:
        SwmError: Before the weights are loaded for everything that can be known by then.
    """
    plugins = load_plugins(plugin_files)
    name, given = taken_model(model, tokenizer)
    values = taken_recipe(recipe, plugins.registry)
    files = [str(file) for file in plugin_files]
    built = build_recipe({"model": name, "stages": list(stages), "plugins": files, **values}, plugins)
    return CompressionPipeline(built, plugins, progress or usual_progress(), overwrite, given=given).run()
