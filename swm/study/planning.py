"""Which runs a grid consists of, all of them checked before the first begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from swm.errors import RecipeError, SwmError
from swm.interfaces.progress import Silent
from swm.recipe.building import build_recipe
from swm.run.preparation import prepare
from swm.study.baselines import add_baseline, baseline_recipes, is_baseline, with_full_name
from swm.study.grid import combinations
from swm.study.loading import LoadedStudy
from swm.study.naming import THE_RECIPE, axes_label
from swm.study.runs import RunBuilder, StudyRun


@dataclass
class PlannedRuns:
    """All runs that are known before the first begins, the original model's first."""

    runs: list[StudyRun] = field(default_factory=list)
    unmatched: dict[str, list[tuple[str, dict[str, Any]]]] = field(default_factory=dict)
    """Names and recipes of baselines, by the id of the run that decides how many layers they remove."""
    left_out: list[str] = field(default_factory=list)
    """Baselines that the study would have added, and why they cannot be run."""


def plan_runs(loaded: LoadedStudy) -> PlannedRuns:
    """All combinations of the grid with all seeds, and their baselines; each recipe once.

    Raises RecipeError with all mistakes at once, each with the name of its run, before anything is run.
    """
    builder, study = RunBuilder(loaded), loaded.study
    planned = PlannedRuns()
    mistakes: list[tuple[str, SwmError]] = []
    methods: dict[str, StudyRun] = {}
    baselines: dict[str, StudyRun] = {}
    for axes, data in combinations(study):
        try:
            run = builder.make(data, axes)
            recipe = builder.build(data)
            if is_baseline(recipe, loaded.plugins):
                run = dataclasses.replace(run, kind="trivial")
            methods.setdefault(run.id, run)
            if not study.baselines:
                continue
            for name, plain in baseline_recipes(recipe, axes, loaded.plugins):
                try:
                    add_baseline(baselines, builder.make(plain, axes, "baseline", name), name)
                except RecipeError:
                    # A method that decides by itself how much to remove says so when it is done.
                    planned.unmatched.setdefault(run.id, []).append((name, plain))
        except SwmError as error:
            mistakes.append((axes_label(axes) or THE_RECIPE, error))
    if mistakes:
        raise joined(mistakes)
    added = [with_full_name(run, study.repeat) for run in baselines.values() if run.id not in methods]
    runs = [*methods.values(), *added]
    impossible = check_runs(runs, loaded)
    planned.left_out = [f"{run.name}: {error}" for run, error in impossible]
    runs = [run for run in runs if not any(run is other for other, _ in impossible)]
    measured = {run.dense: run for run in runs}
    planned.runs = [*map(builder.dense, measured.values()), *runs]
    return planned


def joined(mistakes: Sequence[tuple[str, SwmError]]) -> SwmError:
    """One error with all mistakes, each with the name of its run; a mistake that all runs share is named once."""
    first = mistakes[0][1]
    alone = len(mistakes) == 1 and mistakes[0][0] == THE_RECIPE
    if alone or (len(mistakes) > 1 and len({str(error) for _, error in mistakes}) == 1):
        return RecipeError(first.message, ("recipe", *first.path))
    lines = dict.fromkeys(f"  {name}: {error}" for name, error in mistakes)
    head = "a run" if len(lines) == 1 else f"{len(lines)} runs"
    return RecipeError(f"{head} cannot be run:\n" + "\n".join(lines))


def check_runs(runs: Sequence[StudyRun], loaded: LoadedStudy) -> list[tuple[StudyRun, SwmError]]:
    """Check everything about every run that can be known without weights. Raises RecipeError with all mistakes.

    Returns the baselines that cannot be run and why: nobody asked for them, so that they are left out.
    """
    mistakes: list[tuple[str, SwmError]] = []
    impossible: list[tuple[StudyRun, SwmError]] = []
    measured: list[Any] = []
    for run in runs:
        recipe = build_recipe(run.recipe, loaded.plugins)
        if recipe.evaluate in measured:
            # Data and texts of one protocol are checked once.
            recipe = build_recipe({**run.recipe, "evaluate": {}}, loaded.plugins)
        else:
            measured.append(recipe.evaluate)
        try:
            if recipe.evaluate.speed is not None and (loaded.study.executor.at_once() or 2) > 1:
                raise RecipeError("speed cannot be measured while other runs keep the machine busy; use one worker")
            prepare(recipe, loaded.plugins, Silent(), overwrite=False)
        except SwmError as error:
            if run.kind == "baseline":
                impossible.append((run, error))
            else:
                mistakes.append((run.name, error))
    if mistakes:
        raise joined(mistakes)
    return impossible
