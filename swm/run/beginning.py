"""The beginning of a run's report: the original model, and what is to be noted of it and of the text."""

from __future__ import annotations

from swm.loading.given import GivenModel
from swm.model.shape import widths
from swm.model.view import ModelView
from swm.recipe.recipe import Recipe
from swm.report.builder import ReportBuilder
from swm.run.calibrating import same_text_notes
from swm.run.preparation import Prepared
from swm.run.taking import lies_in_memory


def begin_report(recipe: Recipe, ready: Prepared, view: ModelView, notes: list[str]) -> ReportBuilder:
    """The report of a run, before anything is changed.

    Args:
        recipe: The recipe.
        ready: What was prepared for the run.
        view: The original model.
        notes: Becomes the report's notes; what is known by now is added.
    """
    notes.extend(ready.notes)
    notes.extend(same_text_notes(recipe))
    model = {
        "source": ready.source.name,
        "parameters": ready.shape.parameters,
        "layers": ready.shape.layers,
        "widths": widths(view),
    }
    report = ReportBuilder.begin(model, recipe.seed, ready.drawn_calibration().record())
    lay = lies_in_memory(recipe, ready.source.given)
    if lay:
        report.add_in_memory(lay)
        notes.append(in_memory(recipe, ready.source.given))
    report.add_notes(notes)
    return report


def in_memory(recipe: Recipe, given: GivenModel | None) -> str:
    """Why a recipe cannot be run by itself, as what it names lay in memory; empty where it can."""
    keys = lies_in_memory(recipe, given)
    if not keys:
        return ""
    what = "a hash is all that is known of " + ("them" if keys[1:] else "it")
    lay = f"{', '.join(keys)} lay in the memory of the Python process that ran this"
    return f"{lay}, and {what}: this recipe cannot be run by itself"
