"""Baselines that a study adds: a recipe with every choice replaced by a method that is there to be beaten."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from swm.errors import RecipeError
from swm.interfaces.stage import Stage
from swm.interfaces.strategy import Strategy
from swm.plugins.loading import Plugins
from swm.recipe.recipe import Recipe
from swm.recipe.rounds import Rounds
from swm.study.naming import INSTEAD, axes_label
from swm.study.runs import RunBuilder, StudyRun


def is_baseline(recipe: Recipe, plugins: Plugins) -> bool:
    """Whether every choice for which there are baselines is one."""
    chosen = [getattr(stage, key) for stage in _written(recipe) for key, *_ in _replaceable(stage, plugins)]
    return bool(chosen) and all(strategy.is_baseline for strategy in chosen)


def baseline_recipes(recipe: Recipe, axes: Mapping[str, Any], plugins: Plugins) -> Iterator[tuple[str, dict[str, Any]]]:
    """The names and plain recipes of the baselines of a recipe; none for a recipe that is one itself."""
    stages = _written(recipe)
    fields_of_stages = [list(_replaceable(stage, plugins)) for stage in stages]
    replaced = [
        f"stages.{i}.{stage.name}.{key}"
        for i, (stage, fields) in enumerate(zip(stages, fields_of_stages, strict=True))
        for key, *_ in fields
    ]
    place = axes_label({key: axes[key] for key in axes if any(path.startswith(key) for path in replaced)})
    rounds = max((len(names) for fields in fields_of_stages for _, names, _ in fields), default=0)
    if is_baseline(recipe, plugins):
        return
    for turn in range(rounds):
        plain = copy.deepcopy(recipe.resolved())
        used: list[str] = []
        for entry, stage, fields in zip(plain["stages"], stages, fields_of_stages, strict=True):
            for key, names, others in fields:
                for other in others:
                    entry[stage.name].pop(other, None)
                entry[stage.name][key] = names[min(turn, len(names) - 1)]
                used.append(entry[stage.name][key])
        yield " + ".join(used) + (f"{INSTEAD}{place}" if place else ""), plain


def _written(recipe: Recipe) -> list[Stage]:
    """The stages as the recipe lists them: one that heals in rounds once."""
    return [entry.stage if isinstance(entry, Rounds) else entry for entry in recipe.entries()]


def _replaceable(stage: Stage, plugins: Plugins) -> Iterator[tuple[str, list[str], list[str]]]:
    """The fields of a stage for whose kind there are baselines: its name, theirs, and the method's other fields."""
    strategies = [f.name for f in dataclasses.fields(stage) if isinstance(getattr(stage, f.name), Strategy)]  # type: ignore[arg-type]
    for name in strategies:
        kind = getattr(stage, name).kind
        baselines = [
            e.strategy.name for e in plugins.registry.entries() if e.strategy.kind == kind and e.strategy.is_baseline
        ]
        if baselines:
            yield name, baselines, [other for other in strategies if other != name]


def add_baseline(baselines: dict[str, StudyRun], run: StudyRun, name: str) -> None:
    """Add a baseline by its id; the same one for several runs keeps the axes in which these agree."""
    known = baselines.get(run.id)
    if known is not None:
        axes = {key: value for key, value in known.axes.items() if run.axes.get(key) == value}
        run = dataclasses.replace(known, axes=axes)
        name = name if known.name == name else name.partition(INSTEAD)[0]
    baselines[run.id] = dataclasses.replace(run, name=name)


def with_full_name(run: StudyRun, repeat: int) -> StudyRun:
    """A baseline with the axes in its name that the name does not mention yet, and its seed if there are several."""
    mentioned = run.name.partition(INSTEAD)[2]
    rest = {key: value for key, value in run.axes.items() if axes_label({key: value}) not in mentioned or not mentioned}
    seed = f"seed {run.seed}" if repeat > 1 else ""
    return dataclasses.replace(run, name=", ".join(filter(None, [run.name, axes_label(rest), seed])))


def matched_baseline(
    builder: RunBuilder, name: str, plain: Mapping[str, Any], removed: Sequence[int], after: StudyRun
) -> StudyRun | None:
    """A baseline that removes as many layers as another run did.

    Args:
        builder: What makes runs of this study.
        name: The name of the baseline.
        plain: Its recipe, whose stages may lack a target.
        removed: The number of layers that each stage of the other run removed.
        after: The other run.

    Returns:
        The baseline; None where nothing was removed, so that there is no target.
    """
    data = copy.deepcopy(dict(plain))
    for entry, layers in zip(data["stages"], removed, strict=True):
        [(_, settings)] = entry.items()
        if "target" not in settings and layers:
            settings["target"] = {"layers": layers}
    try:
        run = builder.make(data, {}, "baseline", f"{name}, {sum(removed)} layers")
    except RecipeError:
        return None
    return dataclasses.replace(run, follows=after.id)
