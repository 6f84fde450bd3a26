"""Which plugins something needs that is read again elsewhere, such as a plan, and which of them are missing there."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swm.interfaces.strategy import Strategy
from swm.plugins.registry import BUILTIN_ORIGIN, Registry
from swm.plugins.sources import PluginSource
from swm.provenance.dependencies import strategies_inside
from swm.provenance.source_code import file_hash

# So many digits of a hash are shown.
SHOWN = 12


def needed_plugins(things: Iterable[Any], registry: Registry, model_type: str, model: str) -> list[dict[str, Any]]:
    """The plugins that brought the strategies inside of `things`, the row of a family, and a registered model.

    Args:
        things: Steps, or whatever holds strategies.
        registry: Says who brought what.
        model_type: The model type, whose row a plugin may have brought.
        model: What the user calls the model, which may be a name that a plugin registered.

    Returns:
        A mapping each: `path` and `sha256`, or `distribution` and `version`, or for a class given in Python alone
        `class`; and under `provides` what is needed of it, as in `merger ties`.
    """
    provided: dict[str, dict[str, Any]] = {}

    def need(origin: str, about: Mapping[str, Any], what: str) -> None:
        entry = provided.setdefault(origin, {**about, "provides": []})
        entry["provides"] = sorted({*entry["provides"], what})

    for strategy in strategies_inside(things):
        origin = _owner(registry, type(strategy))
        if origin is None:
            name = f"{type(strategy).__module__}.{type(strategy).__qualname__}"
            need(f"class {name}", {"class": name}, f"{strategy.kind} {strategy.name}")
        elif origin != BUILTIN_ORIGIN:
            need(origin, _source(registry, origin).to_data(), f"{strategy.kind} {strategy.name}")
    others = {f"family of {model_type}": registry.family_origin(model_type)}
    if model in registry.names("model"):
        others[f"model {model}"] = _owner(registry, registry.strategy("model", model)) or BUILTIN_ORIGIN
    for what, origin in others.items():
        if origin != BUILTIN_ORIGIN:
            need(origin, _source(registry, origin).to_data(), what)
    return [provided[origin] for origin in sorted(provided)]


@dataclass(frozen=True)
class PluginNeeds:
    """What a file says that it needs, and where the files of plugins that it names may lie on this machine."""

    needed: Sequence[Mapping[str, Any]]
    registry: Registry
    places: Callable[[str], Iterable[Path]] = lambda name: [Path(name)]

    def missing(self, without: Collection[str] = ()) -> list[str]:
        """What is not registered here, each with the way to it; `without` are kinds that do not count."""
        lines = []
        for entry in self.needed:
            wanted = [what for what in entry["provides"] if what.partition(" ")[0] not in without]
            absent = [what for what in wanted if not self._provides(what)]
            if absent:
                lines.append(f"{', '.join(absent)} of {self._remedy(entry)}")
        return lines

    def changed(self) -> list[str]:
        """Sentences on what is registered here by other code than when the file was written."""
        notes = []
        for entry in self.needed:
            for what in entry["provides"]:
                origin = self._origin(what)
                here = {} if origin is None else _source(self.registry, origin).to_data()
                then = {key: value for key, value in entry.items() if key not in ("provides", "path")}
                now = {key: value for key, value in here.items() if key != "path"}
                if here and then != now:
                    notes.append(
                        f"{what} was that of {_called(entry)} when the plan was made; here it is {_called(here)}"
                    )
        return notes

    def _provides(self, what: str) -> bool:
        return self._origin(what) is not None

    def _origin(self, what: str) -> str | None:
        """Who brings this here; None where nobody does."""
        kind, _, name = what.partition(" ")
        if kind == "family":
            origin = self.registry.family_origin(name.removeprefix("of "))
            return None if origin == BUILTIN_ORIGIN else origin
        if name not in self.registry.names(kind):
            return None
        return next((entry.origin for entry in self.registry.entries() if _name(entry.strategy) == (kind, name)), None)

    def _remedy(self, entry: Mapping[str, Any]) -> str:
        if "distribution" in entry:
            return f"{_called(entry)}: {_installed(entry['distribution'], entry['version'])}"
        if "path" not in entry:
            return f"{_called(entry)}: write it into a plugin file, and name that with --plugin"
        for place in self.places(entry["path"]):
            try:
                same = file_hash(place) == entry["sha256"]
            except OSError:
                continue
            state = "it is as it was" if same else "it has been changed since"
            return f"{_called(entry)}: --plugin {place} would run it ({state})"
        return f"{_called(entry)}: it is not here; name it with --plugin FILE"


def _owner(registry: Registry, strategy: type[Strategy]) -> str | None:
    """Who brought this very class; None for one that is not registered."""
    return next((entry.origin for entry in registry.entries() if entry.strategy is strategy), None)


def _source(registry: Registry, origin: str) -> PluginSource:
    return registry.sources.get(origin) or PluginSource(origin=origin)


def _name(strategy: type[Strategy]) -> tuple[str, str]:
    return strategy.kind, strategy.name


def _called(entry: Mapping[str, Any]) -> str:
    if "distribution" in entry:
        return f"{entry['distribution']} {entry['version']}"
    if "path" in entry:
        return f"plugin file {entry['path']} (sha256 {str(entry['sha256'])[:SHOWN]})"
    return f"plugin {entry['origin']}" if "origin" in entry else f"class {entry.get('class', '?')}, given in Python"


def _installed(distribution: str, version: str) -> str:
    """How to get a distribution."""
    try:
        here = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return f"pip install {distribution}=={version}"
    return f"{here} is installed and not in use; `swm doctor` says why"
