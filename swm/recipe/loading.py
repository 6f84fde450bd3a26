"""Reading a recipe file with its overrides; every mistake gets the line, or the override, that it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swm.errors import RecipeError, SwmError, at, listed, quoted
from swm.files import yaml_file as yamlfile
from swm.files.named_paths import named_file
from swm.files.private_paths import with_remembered_paths
from swm.plugins.loading import Plugins, load_plugins
from swm.plugins.validation import fail
from swm.recipe.building import build_recipe
from swm.recipe.overrides import apply_override
from swm.recipe.recipe import Recipe

Lines = dict[yamlfile.Path, int]


def load_recipe(
    file: str | Path, overrides: Sequence[str] = (), plugin_files: Sequence[str] = ()
) -> tuple[Recipe, Plugins]:
    """Read a recipe file and the plugins that it and `plugin_files` name.

    All relative paths count from the working folder, those in the file too.

    `overrides` are `dotted.key=value` with values in YAML. Every mistake raises RecipeError as `file:line: path: ...`.
    """
    path = Path(file)
    data, lines, set_by = _read(path, overrides)
    try:
        named = data.get("plugins") or []
        if not isinstance(named, list) or not all(isinstance(item, str) for item in named):
            fail(("plugins",), f"found {quoted(named)}; plugins is a list of Python files")
        plugins = load_plugins()
        files = []
        for i, item in enumerate(named):
            with at("plugins", i):
                files.append(named_file(item, path, "plugin file"))
                plugins.load_file(files[-1])
        for item in plugin_files:
            plugins.load_file(item)
        if files or plugin_files:
            # So that the recipe that is saved with the result names all of them.
            data["plugins"] = list(dict.fromkeys(map(str, (*files, *plugin_files))))
        return build_recipe(data, plugins), plugins
    except SwmError as error:
        if error.path or isinstance(error, RecipeError):
            error.place = error.place or place_of(path, error.path, lines, set_by)
        raise


@contextmanager
def placed(file: str | Path, overrides: Sequence[str] = ()) -> Iterator[None]:
    """Errors raised inside that name a key of the recipe get the file and line, or the override, that set it."""
    try:
        yield
    except SwmError as error:
        if error.path and not error.place:
            _, lines, set_by = _read(Path(file), overrides)
            error.place = place_of(Path(file), error.path, lines, set_by)
        raise


def _read(path: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], Lines, dict[yamlfile.Path, str]]:
    """The recipe with its overrides as plain data, the lines of its keys, and the overrides by key."""
    data, lines = yamlfile.read("recipe", path)
    if not isinstance(data, dict):
        raise RecipeError(f"a recipe is a mapping with {listed(Recipe.__dataclass_fields__)}", place=f"{path}:1")
    data = with_remembered_paths(data, path)
    return data, lines, {apply_override(data, override): f"--set {override}" for override in overrides}


def place_of(path: Path, culprit: yamlfile.Path, lines: Lines, set_by: Mapping[yamlfile.Path, str]) -> str:
    """Where a value was written.

    Args:
        path: The recipe file.
        culprit: The keys that lead to the value.
        lines: The lines of all keys in the file.
        set_by: The overrides, by the keys that they set.

    Returns:
        A line of the file, an override, or both when an override changed a part of the value.
    """
    place = f"{path}:{yamlfile.line_of(culprit, lines)}"
    for key, override in set_by.items():
        if culprit[: len(key)] == key:
            return override
        if culprit and key[: len(culprit)] == culprit:
            return f"{place} with {override}" if culprit in lines else override
    return place
