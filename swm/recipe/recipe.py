"""The recipe: one YAML file, or the same keys in Python, validated completely before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from swm.checkpoint.export import Layout
from swm.errors import RecipeError, SwmError, at, did_you_mean, listed, quoted
from swm.files import yaml_file as yamlfile
from swm.files.published import find_again
from swm.interfaces.stage import Stage
from swm.interfaces.strategy import plain
from swm.interfaces.target import Budget
from swm.interfaces.text import TextSource
from swm.measure.perplexity import PerplexityProtocol
from swm.measure.speed_protocol import SpeedProtocol
from swm.measure.tasks.protocol import TaskProtocol
from swm.plugins.construct import construct, fail
from swm.plugins.loading import Plugins, load_plugins
from swm.text.calibration import Bos, Sampling

Lines = dict[yamlfile.Path, int]


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
class EvaluationRecipe:
    """What is measured on the dense and on the compressed model, with the same protocol.

    `tasks` are lm-eval's by name, or `seven`; `limit`, `num_fewshot` and `include_path` say how. `speed: true` measures
    prefill and decode of random prompts, `speed: {preset: shortened-llm}` what the released codes do. `prompts` are
    answered by both models.
    """

    perplexity: PerplexityProtocol | None = None
    tasks: Sequence[str] = ()
    limit: Annotated[int, Field(ge=1)] | None = None
    num_fewshot: Annotated[int, Field(ge=0, le=1000)] | None = None
    include_path: Sequence[str] = ()
    speed: SpeedProtocol | None = None
    prompts: Sequence[str] = ()
    max_new_tokens: Annotated[int, Field(ge=1, le=2**20)] = 48

    def __post_init__(self) -> None:
        named = [name for name in ("limit", "num_fewshot", "include_path") if getattr(self, name)]
        if named and not self.tasks:
            raise ValueError(f"{named[0]} says how tasks are measured, and there are none; add tasks: seven")

    def task_protocol(self) -> TaskProtocol | None:
        """How tasks are measured; None where none is."""
        if not self.tasks:
            return None
        return TaskProtocol(self.tasks, self.limit, self.num_fewshot, self.include_path)


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
    assert isinstance(recipe, Recipe)
    _check_targets(recipe)
    return recipe


def build_evaluation(data: Mapping[str, Any], plugins: Plugins) -> EvaluationRecipe:
    """The `evaluate` part alone, from plain data; a perplexity without text is that of the default text."""
    values = _evaluation(data)
    if isinstance(values.get("perplexity"), Mapping):
        values["perplexity"] = {"text": plugins.registry.default("text"), **values["perplexity"]}
    built = construct(EvaluationRecipe, values, plugins.registry.build)
    assert isinstance(built, EvaluationRecipe)
    return built


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
        assert isinstance(built, Stage)
        stages.append(built)
    return stages


def load_recipe(
    file: str | Path, overrides: Sequence[str] = (), plugin_files: Sequence[str] = ()
) -> tuple[Recipe, Plugins]:
    """Read a recipe file and the plugins that it and `plugin_files` name (those of the file relative to it).

    `overrides` are `dotted.key=value` with values in YAML. Every mistake raises RecipeError as `file:line: path: ...`.
    """
    path = Path(file)
    data, lines, set_by = _read(path, overrides)
    try:
        named = data.get("plugins") or []
        if not isinstance(named, list) or not all(isinstance(item, str) for item in named):
            fail(("plugins",), f"found {quoted(named)}; plugins is a list of Python files")
        plugins = load_plugins()
        for i, item in enumerate(named):
            with at("plugins", i):
                plugins.load_file(path.parent / item)
        for item in plugin_files:
            plugins.load_file(item)
        return build_recipe(data, plugins), plugins
    except SwmError as error:
        if error.path or isinstance(error, RecipeError):
            error.place = error.place or _place(path, error.path, lines, set_by)
        raise


@contextmanager
def placed(file: str | Path, overrides: Sequence[str] = ()) -> Iterator[None]:
    """Errors raised inside that name a key of the recipe get the file and line, or the override, that set it."""
    try:
        yield
    except SwmError as error:
        if error.path and not error.place:
            _, lines, set_by = _read(Path(file), overrides)
            error.place = _place(Path(file), error.path, lines, set_by)
        raise


def _read(path: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], Lines, dict[yamlfile.Path, str]]:
    """The recipe with its overrides as plain data, the lines of its keys, and the overrides by key."""
    data, lines = yamlfile.read("recipe", path)
    if not isinstance(data, dict):
        raise RecipeError(f"a recipe is a mapping with {listed(Recipe.__dataclass_fields__)}", place=f"{path}:1")
    data = find_again(data, path)
    return data, lines, {apply_override(data, override): f"--set {override}" for override in overrides}


def _place(path: Path, culprit: yamlfile.Path, lines: Lines, set_by: Mapping[yamlfile.Path, str]) -> str:
    """Where the culprit was written: a line of the file, an override, or both when an override changed a part of it."""
    place = f"{path}:{yamlfile.line_of(culprit, lines)}"
    for key, override in set_by.items():
        if culprit[: len(key)] == key:
            return override
        if culprit and key[: len(culprit)] == culprit:
            return f"{place} with {override}" if culprit in lines else override
    return place


def apply_override(data: Any, override: str) -> yamlfile.Path:
    """Set one `dotted.key=value` in plain data; returns the path that was set."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise RecipeError(
            f"'{override}' is not of the form key=value, as in stages.0.depth.target.ratio=0.35", (), "--set"
        )
    try:
        value, _ = yamlfile.parse(text)
        return set_value(data, dotted, value)
    except RecipeError as error:
        raise RecipeError(error.message, (), f"--set {override}") from None


def index_or_name(part: str) -> int | str:
    """A part of a dotted key: the number of an entry, or a name."""
    return int(part) if re.fullmatch("[0-9]{1,9}", part) else part


def set_value(data: Any, dotted: str, value: Any) -> yamlfile.Path:
    """Set the value at a dotted key of plain data; returns its path. Raises RecipeError where nothing can be set."""
    parts: list[str | int] = [index_or_name(part) for part in dotted.split(".")]
    here = data
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        where = ".".join(map(str, parts[:depth])) or "the recipe"
        if isinstance(here, list):
            if not isinstance(part, int) or part >= len(here):
                raise RecipeError(f"{where} has {len(here)} entries, no '{part}'")
        elif not isinstance(here, dict):
            raise RecipeError(f"{where} is {here!r}, which has no '{part}'")
        elif not last and part not in here:
            here[part] = {}
        if last:
            here[part] = value
        else:
            here = here[part]
    return tuple(parts)
