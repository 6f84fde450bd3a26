"""The recipe: one YAML file, or the same keys in Python, validated completely before anything runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from swm.checkpoint.layout import Layout
from swm.errors import did_you_mean, listed, quoted
from swm.interfaces.stage import Stage
from swm.interfaces.strategy import plain
from swm.interfaces.text import TextSource
from swm.measure.protocol import EvaluationRecipe
from swm.plugins.construct import construct, fail
from swm.plugins.loading import Plugins
from swm.plugins.registry import require_interface
from swm.recipe.budget import Budget
from swm.text.calibration import Bos, Sampling


@dataclass(frozen=True)
class CalibrationRecipe:
    """Which text the strategies see, and how much of it.

    `sampling: windows`, which is meant without it, cuts all documents, joined, into windows and draws some of them.
    `sampling: documents` draws documents and crops of them, as the released codes do (theirs: `samples: 10`,
    `seq_len: 128`, `seed: 1234`): no crop crosses documents, and BOS stands only at the beginning of one.
    """

    text: TextSource
    samples: Annotated[int, Field(ge=1, le=10**7)] = 32
    seq_len: Annotated[int, Field(ge=2, le=2**24)] = 128
    bos: Bos = "auto"
    sampling: Sampling | None = None


@dataclass(frozen=True)
class Recipe:
    """Everything that a run depends on.

    `model` is a hub id, a folder, a GGUF file, or a name that a plugin provides. `stages` run in their order.
    """

    model: str
    stages: Sequence[Any]
    calibration: CalibrationRecipe
    evaluate: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    budget: Budget | None = None
    output: str | None = None
    layout: Layout = "native"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    device_map: str | None = None
    trust_remote_code: bool = False
    trackers: Sequence[Any] = ()
    plugins: Sequence[str] = ()

    def resolved(self) -> dict[str, Any]:
        """The recipe with every default written out, as plain data that builds an equal recipe."""
        data: dict[str, Any] = plain(self)
        data["stages"] = [_stage_entry(stage) for stage in self.stages]
        return data


def _stage_entry(stage: Stage) -> dict[str, Any]:
    if stage.holds:
        return {stage.name: plain(getattr(stage, stage.holds))}
    spec = stage.spec()
    del spec["name"]
    return {stage.name: {key: value for key, value in spec.items() if value is not None}}


def build_recipe(data: Mapping[str, Any], plugins: Plugins) -> Recipe:
    """A recipe from plain data. Raises RecipeError with the path of the culprit."""
    if not isinstance(data, Mapping):
        fail((), f"a recipe is a mapping with {listed(Recipe.__dataclass_fields__)}")
    values = dict(data)
    values.setdefault("calibration", {})
    if isinstance(values["calibration"], Mapping):
        values["calibration"] = {"text": plugins.registry.default("text"), **values["calibration"]}
    if isinstance(values.get("evaluate"), Mapping):
        values["evaluate"] = _evaluation(values["evaluate"])
    if values.get("trackers") is not None:
        values["trackers"] = _build_trackers(values["trackers"], plugins)
    if "stages" in values:
        values["stages"] = _build_stages(values["stages"], plugins)
    recipe = construct(Recipe, values, plugins.registry.build)
    _check_targets(recipe)
    return recipe


def build_evaluation(data: Mapping[str, Any], plugins: Plugins) -> EvaluationRecipe:
    """The `evaluate` part alone, from plain data; a perplexity without text is that of the default text."""
    values = _evaluation(data)
    if isinstance(values.get("perplexity"), Mapping):
        values["perplexity"] = {"text": plugins.registry.default("text"), **values["perplexity"]}
    return construct(EvaluationRecipe, values, plugins.registry.build)


def _evaluation(value: Mapping[str, Any]) -> dict[str, Any]:
    """`tasks: seven` for a list of one, `speed: true` for all its defaults."""
    values = dict(value)
    if isinstance(values.get("tasks"), str):
        values["tasks"] = [values["tasks"]]
    if isinstance(values.get("speed"), bool):
        values["speed"] = {} if values["speed"] else None
    return values


def _build_trackers(value: Any, plugins: Plugins) -> tuple[Any, ...]:
    entries = value if isinstance(value, list | tuple) else [value]
    return tuple(plugins.registry.build("tracker", entry, ("trackers", i)) for i, entry in enumerate(entries))


def _check_targets(recipe: Recipe) -> None:
    """Every stage needs a target of its own or a budget to take one from, and a budget needs such a stage."""
    waiting = [i for i, stage in enumerate(recipe.stages) if stage.wants_target()]
    if recipe.budget is not None and not waiting:
        fail(("budget",), "every stage says itself how much it removes; leave out the budget or their targets")
    if recipe.budget is None and waiting:
        stage = recipe.stages[waiting[0]]
        units = (
            "{layers: n}, {params: n} or {ratio: r}"
            if stage.removed_kinds() == {"layers"}
            else "{params: n} or {ratio: r}"
        )
        who = getattr(stage, "pruner", stage).name
        fail(
            ("stages", waiting[0], stage.name),
            f"'{who}' needs a target: {units}; or give the recipe a budget: {{ratio: r}}",
        )


def _build_stages(value: Any, plugins: Plugins) -> list[Stage]:
    known = plugins.registry.names("stage")
    if not isinstance(value, list | tuple) or not value:
        fail(("stages",), f"found {quoted(value)}; stages is a list of one or more of {listed(known)}")
    stages: list[Stage] = []
    for i, entry in enumerate(value):
        path = ("stages", i)
        if isinstance(entry, Stage):
            built = plugins.registry.build("stage", entry, path)
        else:
            if not isinstance(entry, Mapping) or len(entry) != 1:
                fail(path, f"found {quoted(entry)}; a stage is one key, its kind: {listed(known)}")
            [(kind, parameters)] = entry.items()
            if kind not in known:
                fail(
                    (*path, str(kind)),
                    f"unknown stage {quoted(kind)}; known: {listed(known)}.{did_you_mean(kind, known)}",
                )
            holds = getattr(plugins.registry.strategy("stage", kind), "holds", "")
            if holds:
                parameters = {holds: plugins.registry.build(holds, plain(parameters), (*path, kind))}
            if not isinstance(parameters, Mapping):
                fail((*path, kind), f"found {quoted(parameters)}; '{kind}' is a mapping of its parameters")
            built = plugins.registry.build_named("stage", kind, dict(parameters), (*path, kind))
        stages.append(require_interface(Stage, built))
    return stages


def index_or_name(part: str) -> int | str:
    """A part of a dotted key: the number of an entry, or a name."""
    return int(part) if re.fullmatch("[0-9]{1,9}", part) else part
