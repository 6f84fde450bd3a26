"""Finding plugins: built-in modules, installed distributions, single files. All come through one pluggy manager."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType

import pluggy

from swm import hookspecs
from swm.errors import ClashError, PluginError, SwmError, did_you_mean, listed, nearest_file, unknown
from swm.registry import Registry

GROUP = "swm"
RESTRICT = "SWM_PLUGINS"
BUILTIN_ORIGIN = "swm"
BUILTIN = (
    "swm.builtin_families",
    "swm.similarity",
    "swm.mergers",
    "swm.pruners",
    "swm.recovery",
    "swm.stages",
    "swm.texts",
    "swm.trackers",
    "swm.providers",
)


@dataclass(frozen=True)
class Broken:
    """An installed plugin that could not be used, and why."""

    origin: str
    error: str

    def __str__(self) -> str:
        return f"plugin {self.origin}: {self.error}; remove it or set {RESTRICT}="


@dataclass
class Plugins:
    """The loaded plugins: their registry, their life-cycle hooks, and the broken ones."""

    registry: Registry
    manager: pluggy.PluginManager
    origins: list[str] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)

    def load_file(self, path: str | Path) -> None:
        """Load one Python file as a plugin. Raises PluginError with the file and the cause."""
        file = Path(path).resolve()
        if not file.is_file():
            raise PluginError(f"plugin file {path} does not exist.{nearest_file(path)}")
        name = f"swm_plugin_{file.stem}_{abs(hash(file)):x}"
        if self.manager.has_plugin(name):
            return
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise PluginError(f"plugin file {path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        # Dataclasses with postponed annotations look their module up while it runs.
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise PluginError(f"plugin file {path}: {type(error).__name__}: {error}") from error
        self._add(module, name, str(path))

    def _add(self, module: ModuleType, name: str, origin: str) -> None:
        """Register a module and what it brings, or nothing of it. Raises PluginError with the origin and the cause."""
        try:
            self.manager.register(module, name)
            self._check_hooks(module, origin)
            # Only the new plugin: the others have been asked already.
            others = [p for p in self.manager.get_plugins() if p is not module]
            caller = self.manager.subset_hook_caller("swm_register", others)
            caller(register=partial(self.registry.register, origin=origin))
        except Exception as error:
            if self.manager.has_plugin(name):
                self.manager.unregister(name=name)
            self.registry.forget(origin)
            if isinstance(error, SwmError):
                raise
            # pluggy names the module in its first line and the mistake in the others.
            lines = str(error).splitlines() or [""]
            what = "" if isinstance(error, pluggy.PluginValidationError) else f"{type(error).__name__}: "
            raise PluginError(f"plugin {origin}: {what}{' '.join(lines[1:] or lines)}") from error
        self.origins.append(origin)

    def _check_hooks(self, module: ModuleType, origin: str) -> None:
        """Raise PluginError for a hook that is not ours, and for a plugin without any."""
        known = [name for name in vars(hookspecs) if name.startswith("swm_")]
        callers = self.manager.get_hookcallers(module) or []
        for caller in callers:
            if not caller.has_spec():
                raise PluginError(f"plugin {origin}: {unknown('hook', caller.name, known)}")
        if not callers and origin != BUILTIN_ORIGIN:
            raise PluginError(f"plugin {origin} has no hook: put @swm.hookimpl above one of {listed(known)}")


def load_plugins(files: Iterable[str | Path] = ()) -> Plugins:
    """The built-in plugins, the installed ones that `SWM_PLUGINS` admits, and the given files.

    An installed plugin that breaks is listed in `Plugins.broken`; a name that two plugins claim raises PluginError.
    """
    manager = pluggy.PluginManager("swm")
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(Registry(), manager)
    for name in BUILTIN:
        plugins._add(importlib.import_module(name), name, BUILTIN_ORIGIN)
    _load_installed(plugins)
    for file in files:
        plugins.load_file(file)
    return plugins


def _load_installed(plugins: Plugins) -> None:
    restrict = os.environ.get(RESTRICT)
    wanted = None if restrict is None else {name.strip() for name in restrict.split(",") if name.strip()}
    found = sorted(importlib.metadata.entry_points(group=GROUP), key=lambda e: (e.name, e.value))
    if wanted is not None and wanted - {entry.name for entry in found}:
        missing = listed(wanted - {entry.name for entry in found})
        near = did_you_mean(missing, [entry.name for entry in found])
        raise PluginError(f"{RESTRICT} names {missing}; installed plugins: {listed(e.name for e in found)}.{near}")
    seen: dict[str, str] = {}
    for entry in found:
        if wanted is not None and entry.name not in wanted:
            continue
        dist = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value
        origin = f"'{entry.name}' ({dist})"
        if entry.name in seen:
            raise ClashError(f"plugin name '{entry.name}' is used twice: by {seen[entry.name]} and by {dist}")
        seen[entry.name] = dist
        try:
            module = entry.load()
        except (Exception, SystemExit) as error:
            plugins.broken.append(Broken(origin, f"{type(error).__name__}: {error}"))
            continue
        try:
            plugins._add(module, entry.name, origin)
        except ClashError:
            raise
        except PluginError as error:
            plugins.broken.append(Broken(origin, str(error)))
