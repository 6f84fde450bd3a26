"""Measuring the original and the compressed model of one run, into the run's report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swm.measure.speed import measure_speed, speed_of_model
from swm.model.view import ModelView
from swm.plugins.loading import Plugins
from swm.recipe.recipe import Recipe
from swm.report.builder import ReportBuilder
from swm.run.preparation import Prepared
from swm.run.stopwatch import Stopwatch


@dataclass(frozen=True)
class RunMeasurements:
    """Measures the models of a run as its recipe says; plugins hear of each measurement.

    `notes` are those of the report. `known_dense` holds measurements of the original model by an earlier run, with the
    `fingerprint` of that model; they are used when the model is the same.
    """

    recipe: Recipe
    plugins: Plugins
    prepared: Prepared
    report: ReportBuilder
    stopwatch: Stopwatch
    notes: list[str]
    known_dense: Mapping[str, Any]

    def measure(self, view: ModelView, which: str) -> None:
        """Measure one model, `dense` or `compressed`: perplexity, tasks, measures and answers."""
        shared = {"answers": {"prompts": list(self.recipe.evaluate.prompts)}}
        evaluator, known = self.prepared.evaluator, self._known(which)
        with self.stopwatch.timed(f"measure {which}"):
            original = None if which == "dense" else lambda: self.prepared.original.view().model
            for kind, result in evaluator.recall(known) if known else evaluator.measure(view.model, which, original):
                if kind == "perplexity" and math.isinf(result["value"]):
                    nats = result["nats_per_token"]
                    self.notes.append(f"the {which} model's perplexity is too large for a number: e^{nats:.4g}")
                self.report.add_measurement(kind, which, result, shared.get(kind))
                self.plugins.manager.hook.swm_measured(which=which, metrics={kind: result})

    def note_vocabulary(self, view: ModelView) -> None:
        """Say in the report what a cut of the vocabulary means for the numbers of the compressed model."""
        if view.tokens is None:
            return
        self.notes.append(
            f"the compressed model has {view.vocabulary:,} of {self.prepared.shape.vocabulary:,} tokens; a perplexity "
            "with fewer tokens to choose from is lower by that alone"
        )
        windows = self.prepared.evaluator.windows
        if windows is not None and "vocabulary_size" in windows.record:
            self.notes.append(
                "the text of the perplexity uses tokens that are gone, and split into others its windows are longer "
                "than the model takes; so the two models read other windows, and their perplexities cannot be compared"
            )
        elif windows is not None and windows.scored() > sum(windows.tokens()):
            self.notes.append(
                "the text of the perplexity uses tokens that are gone: the compressed model reads its "
                f"{sum(windows.tokens()):,} tokens as {windows.scored():,}. Both perplexities are of the same windows, "
                "per token of the original model"
            )

    def measure_speed(self, view: ModelView) -> dict[str, Any]:
        """The speed of both models, empty when the recipe asks for none.

        They take turns, so that a machine that slows down does so for both.
        """
        protocol = self.recipe.evaluate.speed
        if protocol is None:
            return {}
        pair = {"dense": self.prepared.original.view().model, "compressed": view.model}
        progress, seed = self.stopwatch.progress, self.recipe.seed
        with self.stopwatch.timed("measure speed"):
            speed = measure_speed(
                pair, view.config.vocab_size, protocol, progress, seed, tokenizer=self.prepared.tokenizer
            )
        for which in pair:
            self.plugins.manager.hook.swm_measured(which=which, metrics={"speed": speed_of_model(speed, which)})
        return speed

    def _known(self, which: str) -> Mapping[str, Any]:
        same = self.known_dense.get("fingerprint") == self.prepared.original.fingerprint
        return self.known_dense if which == "dense" and same else {}
