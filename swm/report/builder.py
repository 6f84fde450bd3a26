"""Building a report, piece by piece, and writing it: the same way for runs and for replays."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swm.checkpoint.saving import REPORT
from swm.files.private_paths import without_private_paths
from swm.files.writing import write_json
from swm.model.shape import ModelShape, achieved, shape_now, widths
from swm.model.view import ModelView
from swm.plan.plan import PlannedStage
from swm.report.environment import environment
from swm.report.record import RunReport
from swm.report.tokens_used import tokens_used
from swm.version import __version__


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write `report.json` into the folder. Raises OSError."""
    write_json(folder / REPORT, report)


@dataclass(frozen=True)
class ReportBuilder:
    """A report in the making. `data` is its plain data: the keys of `report.json`, in the order they were added."""

    data: dict[str, Any]

    @classmethod
    def begin(cls, model: Mapping[str, Any], seed: int, calibration: Mapping[str, Any]) -> ReportBuilder:
        """A report with what is known before the model is changed; `model` describes the original one."""
        return cls(
            {
                "swm": __version__,
                "model": dict(model),
                "seed": seed,
                "calibration": dict(calibration),
                "environment": environment(),
            }
        )

    def add_notes(self, notes: list[str]) -> None:
        """Make this very list the report's notes, so that the report has what is added to the list later too."""
        self.data["notes"] = notes

    def add_in_memory(self, keys: Sequence[str]) -> None:
        """Say which values of the recipe lay in memory, so that the recipe cannot be run by itself."""
        self.data["in_memory"] = list(keys)

    def add_measurement(self, kind: str, which: str, result: Any, shared: Mapping[str, Any] | None = None) -> None:
        """Add one measurement of one model.

        Args:
            kind: `perplexity`, `tasks` or `answers`.
            which: The model, `dense` or `compressed`.
            result: What was measured, as plain data.
            shared: What both models have in common, such as the prompts of the answers.
        """
        self.data.setdefault(kind, dict(shared or {}))[which] = result

    def add_fingerprint(self, fingerprint: str) -> None:
        """Add the fingerprint of the original model."""
        self.data["model"]["fingerprint"] = fingerprint

    def add_stages(self, stages: Sequence[PlannedStage], count_steps: bool = True) -> None:
        """Add the settings and facts of the stages, and how many steps each has."""
        self.data["stages"] = [
            {
                "stage": stage.stage,
                "settings": stage.settings,
                "facts": stage.facts,
                **({"steps": len(stage.steps)} if count_steps else {}),
            }
            for stage in stages
        ]

    def add_compressed(
        self,
        view: ModelView,
        original: ModelShape,
        target: Mapping[str, Any] | None = None,
        reached: Mapping[str, Any] | None = None,
    ) -> None:
        """Add the size of the compressed model, and what was removed.

        Args:
            view: The compressed model.
            original: The shape of the original one.
            target: What was asked for, in the unit of the budget; None or empty without one.
            reached: What the result has in that unit, where it is none that everything is told in.
        """
        shape = shape_now(view)
        self.data["compressed"] = {"parameters": shape.parameters, "layers": shape.layers, "widths": widths(view)}
        if original.active_parameters is not None:
            self.data["model"]["active_parameters"] = original.active_parameters
            self.data["compressed"]["active_parameters"] = shape.active_parameters
        if view.tokens is not None:
            self.data["model"]["vocabulary_size"] = original.vocabulary
            self.data["compressed"]["vocabulary_size"] = shape.vocabulary
        if target:
            self.data["target"] = dict(target)
        self.data["achieved"] = {**achieved(original, original, shape), **(reached or {})}

    def add_acceptance(self, judgement: Mapping[str, Any]) -> None:
        """Add whether the compressed model keeps the limits of its recipe."""
        self.data["acceptance"] = judgement

    def add_saved(self, saved: bool) -> None:
        """Say whether the compressed model is saved: a run without an output, or a rejected one, leaves none.

        All parts of the run are done by then, so this collects how many tokens of which source each of them used.
        """
        self.data["tokens_used"] = tokens_used(self.data)
        self.data["saved"] = saved

    def add_verification(self, verification: dict[str, Any]) -> None:
        """Add what the comparison with the saved model gave; what could not be saved becomes notes."""
        self.add_saved(True)
        self.data["notes"] += verification.pop("left_out", [])
        self.data["verification"] = verification

    def write(self, folder: Path, known: Collection[str]) -> RunReport:
        """Write `report.json` without the paths of this machine, the `known` ones among them; returns what it holds.

        Raises OSError.
        """
        shown = without_private_paths(self.data, known)
        write_report(shown, folder)
        return RunReport.model_validate(shown)
