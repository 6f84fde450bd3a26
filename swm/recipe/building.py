"""Building a recipe from plain data, validated completely before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from swm.checkpoint.layout import LAYOUTS
from swm.errors import RecipeError, at, did_you_mean, listed, quoted
from swm.interfaces.measure import Measure
from swm.interfaces.shape_needs import ShapeNeeds
from swm.interfaces.stage import Stage
from swm.interfaces.strategy import Strategy, plain
from swm.measure.acceptance import MeasureLimit
from swm.measure.named_numbers import check_names, numbers_of
from swm.measure.protocol import EvaluationRecipe
from swm.plugins.construct import construct
from swm.plugins.loading import Plugins
from swm.plugins.registry import require_interface
from swm.plugins.validation import KeyPath, fail
from swm.recipe.healing import Healing
from swm.recipe.recipe import Recipe
from swm.recipe.rounds import HEAL, Rounds, RunStages


def build_recipe(data: Mapping[str, Any], plugins: Plugins) -> Recipe:
    """A recipe from plain data. Raises RecipeError with the path of the culprit."""
    if not isinstance(data, Mapping):
        fail((), f"a recipe is a mapping with {listed(Recipe.__dataclass_fields__)}")
    values = dict(data)
    values.setdefault("calibration", {})
    if isinstance(values["calibration"], Mapping):
        values["calibration"] = {"text": plugins.registry.default("text"), **values["calibration"]}
    if isinstance(values.get("evaluate"), Mapping):
        values["evaluate"] = _full_evaluation(values["evaluate"], plugins, ("evaluate",))
    if isinstance(values.get("accept"), Mapping):
        values["accept"] = _full_acceptance(values["accept"], plugins)
    if values.get("trackers") is not None:
        values["trackers"] = _build_trackers(values["trackers"], plugins)
    if "stages" in values:
        values["stages"] = _build_stages(values["stages"], plugins)
    recipe = _fitted(construct(Recipe, values, plugins.registry.build))
    _check_targets(recipe)
    with at("evaluate"):
        _check_measures(recipe.evaluate)
    _check_limits(recipe)
    return recipe


def build_evaluation(data: Mapping[str, Any], plugins: Plugins) -> EvaluationRecipe:
    """The `evaluate` part alone, from plain data; a perplexity without text is that of the default text."""
    values = _full_evaluation(data, plugins)
    if isinstance(values.get("perplexity"), Mapping):
        values["perplexity"] = {"text": plugins.registry.default("text"), **values["perplexity"]}
    asked = construct(EvaluationRecipe, values, plugins.registry.build)
    _check_measures(asked)
    return asked


def _full_evaluation(value: Mapping[str, Any], plugins: Plugins, path: KeyPath = ()) -> dict[str, Any]:
    """`tasks: seven` for a list of one, `speed: true` for all its defaults; the measures are built."""
    values = dict(value)
    if values.get("measures") is not None:
        given = values["measures"]
        entries = given if isinstance(given, list | tuple) else [given]
        registry, place = plugins.registry, (*path, "measures")
        built = [require_interface(Measure, registry.build("measure", e, (*place, i))) for i, e in enumerate(entries)]
        values["measures"] = built or None
    if isinstance(values.get("tasks"), str):
        values["tasks"] = [values["tasks"]]
    if isinstance(values.get("speed"), bool):
        values["speed"] = {} if values["speed"] else None
    return values


def _full_acceptance(value: Mapping[str, Any], plugins: Plugins) -> dict[str, Any]:
    """With the limits of measures built."""
    values, limits = dict(value), value.get("measures")
    if limits is None or not isinstance(limits, Mapping):
        return values
    path = ("accept", "measures")
    for name, limit in limits.items():
        if not isinstance(limit, Mapping | MeasureLimit):
            fail((*path, str(name)), f"found {quoted(limit)}; a limit is {{at_most: x}} or {{at_least: x}}")
    build = plugins.registry.build
    values["measures"] = {
        str(name): construct(MeasureLimit, plain(limit), build, (*path, str(name))) for name, limit in limits.items()
    }
    return values


def _build_trackers(value: Any, plugins: Plugins) -> tuple[Any, ...]:
    entries = value if isinstance(value, list | tuple) else [value]
    return tuple(plugins.registry.build("tracker", entry, ("trackers", i)) for i, entry in enumerate(entries))


def _fitted(recipe: Recipe) -> Recipe:
    """The recipe with the stages of its run, whose results fit its layout."""
    needs, stages = LAYOUTS[recipe.layout].needs, list(recipe.stages)
    for i, entry in enumerate(stages if needs != ShapeNeeds() else ()):
        with at("stages", i, entry.stage.name if isinstance(entry, Rounds) else entry.name):
            stages[i] = entry.fitting(needs)
    rounds = any(isinstance(entry, Rounds) for entry in stages)
    return replace(recipe, stages=RunStages.of(stages) if rounds else stages)


def _check_targets(recipe: Recipe) -> None:
    """Every stage needs a target of its own or a budget to take one from, and a budget needs such a stage."""
    waiting = [i for i, stage in enumerate(recipe.stages) if stage.wants_target()]
    if recipe.budget is not None and not waiting:
        fail(("budget",), "every stage says itself how much it removes; leave out the budget or their targets")
    if recipe.budget is None and waiting:
        stage = recipe.stages[waiting[0]]
        count = {frozenset({"layers"}): "{layers: n}, ", frozenset({"blocks"}): "{blocks: n}, "}
        units = f"{count.get(stage.removed_kinds(), '')}{{params: n}} or {{ratio: r}}"
        who = getattr(stage, "pruner", stage).name
        fail(
            recipe.place(waiting[0]),
            f"'{who}' needs a target: {units}; or give the recipe a budget: {{ratio: r}}",
        )


def _check_measures(asked: EvaluationRecipe) -> None:
    """Each number of a measure has a name of its own."""
    tasks = asked.task_protocol()
    with at("measures"):
        check_names(asked.measures or (), () if tasks is None else tasks.names())


def _check_limits(recipe: Recipe) -> None:
    """What is to be accepted must be measured."""
    numbers = numbers_of(recipe.evaluate.measures or ())
    for name in {} if recipe.accept is None else recipe.accept.measure_limits():
        if name not in numbers:
            known = f"evaluate.measures gives {listed(numbers)}.{did_you_mean(name, numbers)}"
            fail(("accept", "measures", name), f"it is not measured; {known}")
    for name in {} if recipe.accept is None else recipe.accept.limits():
        if not getattr(recipe.evaluate, name):
            example = "tasks: seven" if name == "tasks" else "perplexity: {text: python-docs}"
            fail(("accept", name), f"it is not measured; add evaluate: {{{example}}}, or leave out this limit")


def _build_stages(value: Any, plugins: Plugins) -> list[Stage | Rounds]:
    if not isinstance(value, list | tuple) or not value:
        known = plugins.registry.names("stage")
        fail(("stages",), f"found {quoted(value)}; stages is a list of one or more of {listed(known)}")
    return [_build_entry(entry, plugins, i) for i, entry in enumerate(value)]


def _build_entry(entry: Any, plugins: Plugins, index: int) -> Stage | Rounds:
    """A stage, or rounds of it, from its entry in the recipe."""
    registry, path = plugins.registry, ("stages", index)
    if isinstance(entry, Stage):
        return _build_stage(entry, plugins, path)
    kind, parameters = _stage_parameters(entry, plugins, path)
    names = [f.name for f in fields(registry.strategy("stage", kind))]  # type: ignore[arg-type]
    heal = parameters.pop(HEAL, None) if HEAL not in names else None
    stage = require_interface(Stage, registry.build_named("stage", kind, parameters, (*path, kind)))
    if heal is None:
        return stage
    with at(*path, kind, HEAL):
        if "target" not in names:
            raise RecipeError(f"'{kind}' takes no target that could be removed in rounds; leave out heal")
        if stage.target is None and not stage.wants_target():  # type: ignore[attr-defined]
            who = getattr(stage, "pruner", stage).name
            raise RecipeError(f"'{who}' decides by itself how much goes; give the stage a target to divide into rounds")
        return Rounds(stage, _build_healing(heal, plugins, (*path, kind)), index)


def _build_healing(value: Any, plugins: Plugins, path: KeyPath) -> Healing:
    """How a stage heals, with the stages built."""
    if not isinstance(value, Mapping | Healing):
        fail((), f"found {quoted(value)}; heal is a mapping with {listed(f.name for f in fields(Healing))}")
    given = vars(value) if isinstance(value, Healing) else value
    healing = construct(Healing, dict(given), plugins.registry.build)
    entries = healing.stages
    if entries is None:
        entries = [{plugins.registry.default("stage"): {}}]
    stages = []
    for i, entry in enumerate(entries):
        stage = _build_stage(entry, plugins, ("stages", i))
        with at("stages", i, stage.name):
            removed = stage.removed_kinds()
            if removed or stage.replaces or stage.wants_target():
                what = listed(removed) if removed else "projections, for which it puts others"
                raise RecipeError(f"'{stage.name}' removes {what}; a stage that heals removes nothing")
        stages.append(stage)
    return replace(healing, stages=stages)


def _build_stage(entry: Any, plugins: Plugins, path: KeyPath) -> Stage:
    """A stage from a mapping with one key, or from an instance made in Python."""
    registry = plugins.registry
    if isinstance(entry, Stage):
        return require_interface(Stage, registry.build("stage", entry, path))
    kind, parameters = _stage_parameters(entry, plugins, path)
    return require_interface(Stage, registry.build_named("stage", kind, parameters, (*path, kind)))


def _stage_parameters(entry: Any, plugins: Plugins, path: KeyPath) -> tuple[str, dict[str, Any]]:
    """The name of a stage and its parameters, from a mapping with one key."""
    registry, known = plugins.registry, plugins.registry.names("stage")
    if not isinstance(entry, Mapping) or len(entry) != 1:
        fail(path, f"found {quoted(entry)}; a stage is one key, its kind: {listed(known)}")
    [(kind, parameters)] = entry.items()
    if kind not in known:
        fail((*path, str(kind)), f"unknown stage {quoted(kind)}; known: {listed(known)}.{did_you_mean(kind, known)}")
    holds = getattr(registry.strategy("stage", kind), "holds", "")
    if holds:
        held = parameters if isinstance(parameters, Strategy | dict) else plain(parameters)
        parameters = {holds: registry.build(holds, held, (*path, kind))}
    if not isinstance(parameters, Mapping):
        fail((*path, kind), f"found {quoted(parameters)}; '{kind}' is a mapping of its parameters")
    return kind, dict(parameters)
