"""A new plugin package out of the templates in `scaffold/`."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from swm.errors import PluginError, quoted, unknown
from swm.files import yaml_file as yamlfile
from swm.files.scratch import clear_dead, scratch
from swm.paths import expanded
from swm.plugins.hookspecs import API_VERSION
from swm.plugins.registry import Registry
from swm.version import __version__

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 60
COMMON = "common"
# A row of data, written as one file: `family_file`.
FAMILY = "family"

# What a README tells to try, by kind.
PLAN = "swm plan recipe.yaml        # what it decides for a real model"
USES = {
    "measure": "swm compress recipe.yaml    # what it says of a real model and of a smaller one",
    "tracker": "swm compress recipe.yaml    # what it keeps of a run",
    "executor": "swm study run study.yaml    # four small runs on it",
    "model": "swm inspect {name}    # whether swm can read the model",
}


def kinds() -> list[str]:
    """The kinds of strategies that there are templates for."""
    folders = [folder for folder in _scaffold().iterdir() if folder.is_dir() and folder.name != COMMON]
    # Other programs put folders here too: installers write __pycache__.
    return sorted(folder.name for folder in folders if any(_texts(folder)))


def new_plugin(name: str, kind: str, registry: Registry, output: Path | None = None) -> Path:
    """Write the package `swm-NAME` with one strategy.

    Args:
        name: What recipes will call the strategy.
        kind: Its kind, such as `similarity`.
        registry: The strategies that there are, whose names are taken.
        output: The folder, which must not exist yet; `swm-NAME` if not given.

    Returns:
        The folder.

    Raises:
        PluginError: There are no templates of that kind, the name cannot be used or is taken, or the folder is there
            already or cannot be written.
    """
    known = kinds()
    if kind not in known:
        raise PluginError(unknown("kind", kind, [*known, FAMILY]))
    check_name(name)
    values = _values(name, kind)
    _check_taken(values, registry)
    folder = expanded(output or values["distribution"]).absolute()
    if os.path.lexists(folder):
        raise PluginError(f"{folder} exists already; choose another name, or another folder with --output")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        clear_dead(folder.parent)
        with scratch(folder.parent) as place:
            made = place.new / folder.name
            for part in (COMMON, kind):
                _copy(_scaffold() / part, made, values)
            made.rename(folder)
    except OSError as error:
        raise PluginError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


def _values(name: str, kind: str) -> dict[str, str]:
    """What the templates leave open."""
    stem = name.replace("-", "_")
    return {
        "name": name,
        "kind": kind,
        "distribution": f"swm-{name}",
        "module": f"swm_{stem}",
        "stem": stem,
        "camel": "".join(part.capitalize() for part in name.split("-")),
        "variable": f"{stem.upper()}_MODEL",
        "use": USES.get(kind, PLAN).format(name=name),
        "version": __version__,
        "api": str(API_VERSION),
    }


def check_name(name: str) -> None:
    """Raise PluginError unless the name can stand in a recipe and be that of a Python module."""
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise PluginError(
            f"name: found {quoted(name)}; allowed are small letters, digits, and single hyphens between them, "
            f"beginning with a letter, {LONGEST} characters at most, such as my-metric"
        )
    if keyword.iskeyword(name):
        raise PluginError(f"name: found {quoted(name)}, a word of the Python language; choose another one")
    if yamlfile.parse(f"name: {name}")[0] != {"name": name}:
        raise PluginError(f"name: found {quoted(name)}, which YAML does not read as text; choose another one")


def _check_taken(values: dict[str, str], registry: Registry) -> None:
    """Raise PluginError for a name that a strategy, a package, or something that the templates import has."""
    name, kind, module, camel = (values[key] for key in ("name", "kind", "module", "camel"))
    owners = _owners(registry)
    # A stage brings a step of its own name.
    for each in (kind, "step") if kind == "stage" else (kind,):
        if (each, name) in owners:
            raise PluginError(
                f"name: there is a {each} '{name}' already, from {owners[each, name][0]}; choose another one"
            )
    if importlib.util.find_spec(module) is not None:
        raise PluginError(f"name: found {quoted(name)}; a package {module} is installed already; choose another one")
    imported = re.compile(rf"^(from|import) .*\b{camel}\b", re.MULTILINE)
    if any(imported.search(text) for part in (COMMON, kind) for text in _texts(_scaffold() / part)):
        raise PluginError(
            f"name: found {quoted(name)}; its class {camel} would hide one that it uses; choose another one"
        )


def _owners(registry: Registry) -> dict[tuple[str, str], list[str]]:
    """The origins of every name, by kind and name."""
    known = {(entry.strategy.kind, entry.strategy.name): [entry.origin] for entry in registry.entries()}
    return {**known, **registry.contested()}


def _texts(folder: Traversable) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _texts(entry)
        elif entry.name.endswith(".tmpl"):
            yield entry.read_text(encoding="utf-8")


def _copy(source: Traversable, target: Path, values: dict[str, str]) -> None:
    """Fill in the templates of a folder, in their names too."""
    target.mkdir(exist_ok=True)
    for entry in source.iterdir():
        if entry.is_dir():
            _copy(entry, target / _named(entry.name, values), values)
        elif entry.name.endswith(".tmpl"):
            text = Template(entry.read_text(encoding="utf-8")).substitute(values)
            (target / _named(entry.name, values)).write_text(text, encoding="utf-8")


def _named(name: str, values: dict[str, str]) -> str:
    name = name.removesuffix(".tmpl").replace("MODULE", values["module"]).replace("STEM", values["stem"])
    return f".{name.removeprefix('dot-')}" if name.startswith("dot-") else name


def _scaffold() -> Traversable:
    return resources.files("swm.scaffold")
