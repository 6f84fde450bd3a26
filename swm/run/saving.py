"""Saving what a run or a replay leaves: the weights, and beside them the plan, the report and the pages about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from swm.checkpoint import saving as checkpoint
from swm.checkpoint.companions import keeps_code
from swm.checkpoint.export import export
from swm.checkpoint.layout import LAYOUTS, Layout
from swm.checkpoint.level import FAST, FULL, NONE, Verify
from swm.errors import CheckpointError
from swm.files.front_matter import CARD, front_matter
from swm.files.private_paths import INPUTS, PRIVATE, absolute_paths, without_private_paths
from swm.files.writing import write_json, write_text, write_yaml
from swm.loading.older_readers import older_readers
from swm.model.view import ModelView
from swm.plan.plan import Plan
from swm.recipe.recipe import Recipe
from swm.report.builder import ReportBuilder
from swm.report.card import model_card
from swm.report.environment import machine_name
from swm.report.html_report import TRACKED, html_report
from swm.report.record import RunReport
from swm.run.preparation import Prepared
from swm.vocabulary.cut_tokenizer import CutTokenizer

# What is said of saving while it goes on.
SAVING: Mapping[Verify, str] = {
    FULL: "save, reload in a fresh process, compare",
    FAST: "save, compare the tensors",
    NONE: "save",
}
# Of the text that the saved and the reloaded model are compared on.
PROBE_SAMPLES, PROBE_TOKENS = 2, 32


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run and not of a replay: the resolved recipe, the seconds of its parts, the measured speed.

    `estimated` are the seconds of its stages that were said beforehand; `tracked` says where trackers hold the run.
    """

    recipe: Mapping[str, Any]
    seconds: Mapping[str, float]
    speed: Mapping[str, Any]
    estimated: Mapping[str, float | None] = field(default_factory=dict)
    in_memory: str = ""
    """Why the recipe cannot be run by itself; empty where it can."""
    tracked: Mapping[str, str] = field(default_factory=dict)

    def inputs(self) -> dict[str, str]:
        """Where the output and the inputs lie on this machine, by their dotted keys."""
        return absolute_paths(self.recipe)

    def write(self, folder: Path, plan: Plan, report: RunReport, known: list[str]) -> None:
        """Write the recipe, the times and the HTML page.

        Args:
            folder: The folder to write into.
            plan: The plan as it may be shown to others.
            report: The report as it may be shown to others.
            known: Paths of this machine, which only the times may hold.

        Raises:
            OSError: When a file cannot be written.
        """
        recipe = without_private_paths(self.recipe, known)
        write_yaml(folder / "recipe.yaml", recipe, self.in_memory)
        # Apart from the report, so that the same recipe gives the same bytes in every other file.
        timing = {**self._times(), **self._measured_speed(), **({TRACKED: dict(self.tracked)} if self.tracked else {})}
        write_json(folder / PRIVATE, {**timing, INPUTS: self.inputs(), "machine": machine_name()})
        write_text(folder / "report.html", html_report(report, plan, timing, recipe))

    def _times(self) -> dict[str, float]:
        """The seconds of each part, then what was estimated."""
        estimated = {f"estimated {name}": value for name, value in self.estimated.items() if value is not None}
        return {name: round(value, 3) for name, value in {**self.seconds, **estimated}.items()}

    def _measured_speed(self) -> dict[str, Any]:
        return {"speed": self.speed} if self.speed else {}


@dataclass(frozen=True)
class OutputFolder:
    """The folder that a run or a replay leaves. `source` is the folder of the original model."""

    path: Path
    source: Path
    layout: Layout
    overwrite: bool
    trust_remote_code: bool
    cut: CutTokenizer | None = None
    """The tokenizer of a model whose vocabulary was cut; None where it is that of the original model."""
    verify: Verify = FULL
    """How thoroughly the folder is checked."""
    weights: Mapping[str, Tensor] | None = None
    """The numbers of the original model by their names, where they lie in memory and not in its folder."""

    @classmethod
    def of_run(cls, recipe: Recipe, ready: Prepared, overwrite: bool) -> OutputFolder:
        """That of a run. Raises CheckpointError for a recipe without an output."""
        if ready.output is None:
            raise CheckpointError("the recipe names no output")
        given = ready.source.given
        weights = None if given is None else given.tensors()
        about = (recipe.layout, overwrite, recipe.trust_remote_code, ready.cut, recipe.verify, weights)
        return cls(ready.output, ready.source.folder, *about)

    def save_without_model(self, plan: Plan, report: ReportBuilder, run: RunRecord) -> None:
        """Write the plan, the report and the recipe of a run whose result is not to be kept.

        Raises CheckpointError when the folder cannot be written.
        """
        known = [*run.inputs().values(), str(self.source.absolute())]
        checkpoint.save_pages(self.path, lambda folder: _describe(folder, plan, report, run, known), self.overwrite)

    def save(
        self, view: ModelView, ids: Tensor, plan: Plan, report: ReportBuilder, run: RunRecord | None = None
    ) -> None:
        """Save the model, reload it in a fresh process, compare, and add the files that describe it.

        Args:
            view: The compressed model.
            ids: Tokens that the saved and the reloaded model are compared on, `[samples, seq_len]`, int64.
            plan: What was changed.
            report: The report, which gets the result of the comparison.
            run: What else is known of a run; None for a replay.

        Raises:
            CheckpointError: When the reloaded model differs, or the folder cannot be written.
        """
        absolute = [] if run is None else list(run.inputs().values())
        known = [*absolute, str(self.source.absolute())]

        def describe(folder: Path, verification: dict[str, Any]) -> None:
            report.add_verification(verification)
            shown_plan, shown = _describe(folder, plan, report, run, known)
            original = front_matter(self.source / CARD)
            older = older_readers(folder, view.family)
            code, has_recipe = keeps_code(folder), run is not None
            write_text(folder / CARD, model_card(shown, shown_plan, original, code, older, has_recipe))
            LAYOUTS[self.layout].beside(folder, view.family)

        exported = export(view, self.layout)
        checkpoint.save(
            view.model,
            self.source,
            self.path,
            ids,
            describe,
            self.overwrite,
            exported,
            self.trust_remote_code,
            self.cut,
            self.verify,
            self.weights,
        )


def _describe(
    folder: Path, plan: Plan, report: ReportBuilder, run: RunRecord | None, known: list[str]
) -> tuple[Plan, RunReport]:
    """Write all that tells of a run but the model card.

    Args:
        folder: The folder to write into.
        plan: What was changed.
        report: What was measured.
        run: What else is known of a run; None for a replay.
        known: Paths of this machine, which others must not see.

    Returns:
        The plan and the report as they were written.
    """
    shown_plan, shown = plan.published(known), report.write(folder, known)
    shown_plan.write(folder / "plan.yaml")
    if run is not None:
        run.write(folder, shown_plan, shown, known)
    return shown_plan, shown
