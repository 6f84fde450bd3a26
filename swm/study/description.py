"""The study file: a recipe, what is varied in it, and what is made of the results."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from swm.errors import RecipeError, StudyError, SwmError, at, listed, quoted, unknown
from swm.files import yaml_file as yamlfile
from swm.interfaces.executor import Executor
from swm.plugins.construct import construct, fail
from swm.plugins.loading import Plugins, load_plugins
from swm.recipe.loading import apply_override
from swm.study.naming import label

PRESETS = resources.files("swm.study") / "presets"


@dataclass(frozen=True)
class Figure:
    """A figure: `y` (one measure or several, a line each) over `x`, apart by the values of the key `by`.

    `x` is a key that is varied, or a measure. `bold` of the measures is drawn solid, the others dotted.
    """

    name: str
    x: str
    y: Sequence[str]
    by: str | None = None
    bold: str | None = None
    title: str = ""


@dataclass(frozen=True)
class Range:
    """Numbers to search: from `low` to `high`, in steps, or on a logarithmic scale."""

    low: float
    high: float
    step: float | None = None
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Race:
    """Candidates are trained for a few steps first, and only the best of them longer.

    `steps` are the values that `key` (the steps of a recovery) takes one after the other; of the candidates at each of
    them, one in `keep_one_in` goes on (successive halving).
    """

    key: str
    steps: Annotated[Sequence[int], Field(min_length=2)]
    keep_one_in: Annotated[int, Field(ge=2)] = 3

    def __post_init__(self) -> None:
        if list(self.steps) != sorted(set(self.steps)) or self.steps[0] < 1:
            raise ValueError(f"steps grow from one round to the next, as in [20, 60, 180]; found {list(self.steps)}")


@dataclass(frozen=True)
class Search:
    """Which recipes to try, chosen by Optuna (https://optuna.org) from what the earlier ones gave.

    `space` gives for each dotted key a list of values or a range `{low, high}`. With several `objectives` the search
    is for their Pareto front. `sampler: auto` is Optuna's own choice.
    """

    space: Mapping[str, Any]
    trials: Annotated[int, Field(ge=1, le=10**6)]
    objectives: Sequence[str]
    sampler: Literal["auto", "tpe", "uniform", "nsga2", "gp"] = "auto"
    race: Race | None = None

    def __post_init__(self) -> None:
        if not self.objectives:
            raise ValueError("objectives needs at least one measure, such as perplexity")
        if self.race is not None and len(self.objectives) > 1:
            raise ValueError("race needs one objective: the best of several is not one candidate")


@dataclass(frozen=True)
class Study:
    """What a study runs.

    `grid` gives for each dotted key of the recipe the values that it takes, as a list or as a mapping of names to
    values; every combination is a run. `stages.+` adds a stage, or none where the value is null. `repeat` runs each
    with that many seeds, from the recipe's on. `baselines` runs what must be beaten beside every other choice.
    `rank_by` is the measure that decides which method wins: by default the tasks' average where there is one.
    """

    recipe: Mapping[str, Any]
    executor: Executor
    title: str = ""
    grid: Mapping[str, Any] = field(default_factory=dict)
    search: Search | None = None
    repeat: Annotated[int, Field(ge=1, le=10_000)] = 1
    baselines: bool = True
    rank_by: str | None = None
    figures: Sequence[Any] = ()
    keep_models: bool = False
    cache: bool = True
    output: str | None = None

    def __post_init__(self) -> None:
        if self.grid and self.search is not None:
            raise ValueError("a study has a grid or a search; leave one out")


@dataclass(frozen=True)
class LoadedStudy:
    """A study and where it comes from. `plugin_files` are those that its runs need, absolute."""

    study: Study
    plugins: Plugins
    plugin_files: Sequence[str]
    file: Path
    lines: dict[yamlfile.Path, int]

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Errors raised inside that name a key of the study get the file and the line where it stands."""
        try:
            yield
        except SwmError as error:
            if error.path and not error.place:
                error.place = f"{self.file}:{yamlfile.line_of(error.path, self.lines)}"
            raise


def presets() -> dict[str, str]:
    """The ready-made studies by name, and what each is for."""
    return {name: str(_preset(name).get("title", "")) for name in _preset_names()}


def _preset_names() -> list[str]:
    return sorted(item.name.removesuffix(".yaml") for item in PRESETS.iterdir() if item.name.endswith(".yaml"))


def _preset(name: Any) -> dict[str, Any]:
    if name not in _preset_names():
        raise RecipeError(unknown("preset", name, _preset_names()), ("preset",))
    data, _ = yamlfile.parse((PRESETS / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


def load_study(file: str | Path, overrides: Sequence[str] = (), plugin_files: Sequence[str] = ()) -> LoadedStudy:
    """Read a study file. `overrides` are `dotted.key=value`, as in `recipe.seed=1` or `executor.workers=2`.

    Every mistake raises RecipeError as `file:line: path: ...`.
    """
    path = Path(file)
    data, lines = yamlfile.read("study", path)
    if not isinstance(data, dict):
        raise StudyError(f"a study is a mapping with {listed(Study.__dataclass_fields__)}", place=f"{path}:1")
    for override in overrides:
        apply_override(data, override)
    try:
        values = _merged(data, path)
        files = [str(Path(item).resolve()) for item in plugin_files]
        files += [str((path.parent / item).resolve()) for item in values["recipe"].pop("plugins", ())]
        plugins = load_plugins(files)
        return LoadedStudy(build_study(values, plugins), plugins, files, path, lines)
    except SwmError as error:
        if error.path and not error.place:
            error.place = f"{path}:{yamlfile.line_of(error.path, lines)}"
        raise


def _merged(data: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The study over its preset: of the recipe key by key, of everything else as a whole."""
    given = dict(data)
    base = _preset(given.pop("preset")) if "preset" in given else {}
    recipe = given.get("recipe", {})
    if isinstance(recipe, str):
        with at("recipe"):
            recipe = _read_recipe(path.parent / recipe)
    if not isinstance(recipe, Mapping):
        fail(("recipe",), f"found {recipe!r}; it is a recipe, or the path of one")
    return {**base, **given, "recipe": {**base.get("recipe", {}), **recipe}}


def _read_recipe(file: Path) -> dict[str, Any]:
    data, _ = yamlfile.read("recipe", file)
    if not isinstance(data, dict):
        raise RecipeError(f"{file} holds no recipe")
    if data.get("plugins"):
        data["plugins"] = [str((file.parent / item).resolve()) for item in data["plugins"]]
    return data


def build_study(data: Mapping[str, Any], plugins: Plugins) -> Study:
    """A study from plain data. Raises RecipeError with the path of the culprit."""
    values = dict(data)
    values["executor"] = plugins.registry.build("executor", values.get("executor"), ("executor",))
    grid = values.get("grid", {})
    if not isinstance(grid, Mapping):
        fail(("grid",), f"found {grid!r}; it is a mapping of dotted keys to the values that they take")
    for key in grid:
        choices(grid[key], ("grid", str(key)))
    values["figures"] = list(read_figures(values.get("figures") or [], plugins))
    if isinstance(values.get("search"), Mapping):
        values["search"] = _search(values["search"], plugins)
    if not values.get("recipe"):
        fail(("recipe",), "a study needs a recipe, whose keys it varies")
    study = construct(Study, values, plugins.registry.build)
    assert isinstance(study, Study)
    return study


def read_figures(entries: Any, plugins: Plugins) -> Iterator[Figure]:
    if not isinstance(entries, list):
        fail(("figures",), f"found {quoted(entries)}; figures is a list")
    names: list[str] = []
    seen: set[str] = set()
    for i, entry in enumerate(entries):
        path = ("figures", i)
        if not isinstance(entry, Mapping):
            fail(path, f"found {entry!r}; a figure is a mapping with {listed(Figure.__dataclass_fields__)}")
        missing = [key for key in ("name", "x", "y") if not entry.get(key)]
        if missing:
            fail(path, f"a figure needs {missing[0]}")
        name = str(entry["name"])
        if name in seen:
            fail((*path, "name"), f"two figures are called '{name}'")
        seen.add(name)
        if not _is_file_name(name):
            what = "letters, digits, blanks and the signs . - _, no folder, at most 100"
            fail((*path, "name"), f"found {entry['name']!r}; a figure's name is that of its files: {what}")
        y = [entry["y"]] if isinstance(entry["y"], str) else entry["y"]
        figure = construct(Figure, {**entry, "y": y}, plugins.registry.build, path)
        if figure.name in names:
            fail((*path, "name"), f"two figures are called '{figure.name}'")
        names.append(figure.name)
        yield figure


def _is_file_name(name: str) -> bool:
    """Whether files of this name lie in the folder that they are written to, on every system."""
    return re.fullmatch(r"\w(?:[\w .-]{0,98}[\w-])?", name) is not None


def _search(entry: Mapping[str, Any], plugins: Plugins) -> dict[str, Any]:
    values = dict(entry)
    if isinstance(values.get("objectives"), str):
        values["objectives"] = [values["objectives"]]
    space = values.get("space")
    if not isinstance(space, Mapping) or not space:
        fail(("search", "space"), f"found {space!r}; it is a mapping of dotted keys to lists or ranges")
    values["space"] = {str(key): _room(found, ("search", "space", str(key)), plugins) for key, found in space.items()}
    return values


def _room(found: Any, path: yamlfile.Path, plugins: Plugins) -> Any:
    if isinstance(found, Mapping) and {"low", "high"} <= found.keys():
        whole = all(isinstance(found.get(key, 1), int) for key in ("low", "high", "step"))
        numbers = {key: float(value) if key != "log" else value for key, value in found.items() if _number(value)}
        room = construct(Range, {**found, **numbers, "whole": whole}, plugins.registry.build, path)
        if not room.low < room.high:
            fail(path, f"low must be less than high; found {found['low']!r} and {found['high']!r}")
        return room
    return choices(found, path)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def choices(found: Any, path: yamlfile.Path) -> dict[str, Any]:
    """The values that a key takes, by their labels."""
    if isinstance(found, Mapping) and found:
        return {str(name): value for name, value in found.items()}
    if not isinstance(found, list) or not found:
        fail(path, f"found {found!r}; it is a list of values, or a mapping of names to values")
    labels = [label(value) for value in found]
    for i, name in enumerate(labels):
        if name in labels[:i]:
            fail((*path, i), f"'{name}' stands there twice")
    return dict(zip(labels, found, strict=True))
