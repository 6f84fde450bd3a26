"""Reading a study file: its preset, its recipe, its plugins, and everything in it checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from swm.errors import RecipeError, StudyError, SwmError, at, listed, quoted, unknown
from swm.files import yaml_file as yamlfile
from swm.files.named_paths import named_file
from swm.paths import expanded
from swm.plugins.construct import construct
from swm.plugins.loading import Plugins, load_plugins
from swm.plugins.validation import fail
from swm.recipe.loading import place_of
from swm.recipe.overrides import apply_override
from swm.study.description import Search, Study
from swm.study.figures import read_figures
from swm.study.space import labelled_values, range_or_values

# Where keys are dotted ones of the recipe.
TABLES = ("grid", "search.space")
PRESETS = resources.files("swm.study") / "presets"


@dataclass(frozen=True)
class LoadedStudy:
    """A study and where it comes from. `plugin_files` are those that its runs need, absolute."""

    study: Study
    plugins: Plugins
    plugin_files: Sequence[str]
    file: Path
    lines: dict[yamlfile.Path, int]
    set_by: Mapping[yamlfile.Path, str] = field(default_factory=dict)
    """The overrides, by the keys that they set."""

    @property
    def search(self) -> Search:
        """Its search. Raises StudyError where it has none."""
        if self.study.search is None:
            raise StudyError(f"{self.file} has no search")
        return self.study.search

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Errors raised inside that name a key of the study get the file and the line where it stands."""
        try:
            yield
        except SwmError as error:
            if error.path and not error.place:
                error.place = place_of(self.file, error.path, self.lines, self.set_by)
            raise


def presets() -> dict[str, str]:
    """The ready-made studies by name, and what each is for."""
    return {name: str(_preset(name).get("title", "")) for name in _preset_names()}


def _preset_names() -> list[str]:
    return sorted(item.name.removesuffix(".yaml") for item in PRESETS.iterdir() if item.name.endswith(".yaml"))


def _preset(name: Any) -> dict[str, Any]:
    if name not in _preset_names():
        raise RecipeError(unknown("preset", name, _preset_names()), ("preset",))
    data: dict[str, Any] = yamlfile.parse((PRESETS / f"{name}.yaml").read_text(encoding="utf-8"))[0]
    return data


def load_study(file: str | Path, overrides: Sequence[str] = (), plugin_files: Sequence[str] = ()) -> LoadedStudy:
    """Read a study file. `overrides` are `dotted.key=value`, as in `recipe.seed=1` or `executor.workers=2`.

    Every mistake raises RecipeError as `file:line: path: ...`.
    """
    path = Path(file)
    data, lines = yamlfile.read("study", path)
    if not isinstance(data, dict):
        raise StudyError(f"a study is a mapping with {listed(Study.__dataclass_fields__)}", place=f"{path}:1")
    set_by = {apply_override(data, override, TABLES): f"--set {override}" for override in overrides}
    try:
        values = _merged(data, path)
        files = [str(expanded(item).resolve()) for item in plugin_files]
        files += [str(named_file(item, path, "plugin file").resolve()) for item in values["recipe"].pop("plugins", ())]
        plugins = load_plugins(files)
        return LoadedStudy(build_study(values, plugins), plugins, files, path, lines, set_by)
    except SwmError as error:
        if error.path and not error.place:
            error.place = place_of(path, error.path, lines, set_by)
        raise


def _merged(data: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The study over its preset: of the recipe key by key, of everything else as a whole."""
    given = dict(data)
    base = _preset(given.pop("preset")) if "preset" in given else {}
    recipe = given.get("recipe", {})
    if isinstance(recipe, str):
        with at("recipe"):
            recipe = _read_recipe(named_file(recipe, path, "recipe"))
    if not isinstance(recipe, Mapping):
        fail(("recipe",), f"found {quoted(recipe)}; it is a recipe, or the path of one")
    return {**base, **given, "recipe": {**base.get("recipe", {}), **recipe}}


def _read_recipe(file: Path) -> dict[str, Any]:
    data, _ = yamlfile.read("recipe", file)
    if not isinstance(data, dict):
        raise RecipeError(f"{file} holds no recipe")
    if data.get("plugins"):
        data["plugins"] = [str(named_file(item, file, "plugin file").resolve()) for item in data["plugins"]]
    return data


def build_study(data: Mapping[str, Any], plugins: Plugins) -> Study:
    """A study from plain data. Raises RecipeError with the path of the culprit."""
    values = dict(data)
    values["executor"] = plugins.registry.build("executor", values.get("executor"), ("executor",))
    grid = values.get("grid", {})
    if not isinstance(grid, Mapping):
        fail(("grid",), f"found {quoted(grid)}; it is a mapping of dotted keys to the values that they take")
    for key in grid:
        labelled_values(grid[key], ("grid", str(key)))
    values["figures"] = list(read_figures(values.get("figures") or [], plugins))
    if isinstance(values.get("search"), Mapping):
        values["search"] = _read_search(values["search"], plugins)
    if not values.get("recipe"):
        fail(("recipe",), "a study needs a recipe, whose keys it varies")
    study: Study = construct(Study, values, plugins.registry.build)
    return study


def _read_search(entry: Mapping[str, Any], plugins: Plugins) -> dict[str, Any]:
    values = dict(entry)
    if isinstance(values.get("objectives"), str):
        values["objectives"] = [values["objectives"]]
    space = values.get("space")
    if not isinstance(space, Mapping) or not space:
        fail(("search", "space"), f"found {quoted(space)}; it is a mapping of dotted keys to lists or ranges")
    values["space"] = {
        str(key): range_or_values(entry, ("search", "space", str(key)), plugins) for key, entry in space.items()
    }
    return values
