"""Finding plugins: built-in modules, installed distributions, single files. All come through one pluggy manager."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType

import pluggy

from swm.errors import PluginError, SwmError, did_you_mean, listed, nearest_file, unknown
from swm.paths import expanded, is_file
from swm.plugins import hookspecs
from swm.plugins.guarding import guarded
from swm.plugins.modules import api_version, import_file
from swm.plugins.registry import BUILTIN_ORIGIN, Registry
from swm.plugins.sources import PluginSource
from swm.provenance.source_code import code_hash, file_hash

GROUP = "swm"
RESTRICT = "SWM_PLUGINS"
BUILTIN = (
    "swm.builtin.families",
    "swm.similarity",
    "swm.mergers",
    "swm.pruners",
    "swm.recovery",
    "swm.builtin.stages",
    "swm.builtin.texts",
    "swm.builtin.trackers",
    "swm.builtin.expert_mergers",
    "swm.builtin.providers",
    "swm.builtin.executors",
    "swm.builtin.measures",
)


@dataclass(frozen=True)
class BrokenPlugin:
    """An installed plugin that could not be used, and why."""

    origin: str
    error: str

    def __str__(self) -> str:
        return f"plugin {self.origin}: {self.error}; remove it or set {RESTRICT}="


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin that is in use. `api` is the version of the plugin interface that it says it was written for."""

    origin: str
    api: int | None


@dataclass
class Plugins:
    """The loaded plugins: their registry, their life-cycle hooks, and the broken ones."""

    registry: Registry
    manager: pluggy.PluginManager
    loaded: list[LoadedPlugin] = field(default_factory=list)
    broken: list[BrokenPlugin] = field(default_factory=list)

    files: list[Path] = field(default_factory=list)
    """The plugin files that were named."""

    def __repr__(self) -> str:
        broken = f", {len(self.broken)} broken" if self.broken else ""
        return f"Plugins({', '.join(dict.fromkeys(self.origins))}{broken})"

    def _repr_html_(self) -> str:
        return self.registry._repr_html_()

    @property
    def origins(self) -> list[str]:
        """Where the loaded plugins come from, in their order."""
        return [plugin.origin for plugin in self.loaded]

    def load_file(self, path: str | Path) -> None:
        """Load one Python file as a plugin. Raises PluginError with the file and the cause."""
        file = expanded(path).resolve()
        if not is_file(file):
            raise PluginError(f"plugin file {path} does not exist.{nearest_file(path)}")
        name = f"swm_plugin_{file.stem}_{abs(hash(file)):x}"
        if self.manager.has_plugin(name):
            return
        self.registry.sources[str(path)] = PluginSource(path=str(path), sha256=file_hash(file))
        self._add(import_file(file, name, str(path)), name, str(path))
        self.files.append(file)

    def _add(self, module: ModuleType, name: str, origin: str, rivals: Container[str] = ()) -> None:
        """Register a module and what it brings, or nothing of it.

        Args:
            module: The plugin.
            name: Its name for pluggy.
            origin: What messages call it.
            rivals: The origins whose names it may contest.

        Raises:
            PluginError: With the origin and the cause.
        """
        try:
            api = api_version(module, origin, BUILTIN)
            self.manager.register(module, name)
            self._check_hooks(module, origin)
            self._guard_hooks(module, origin)
            # Only the new plugin: the others have been asked already.
            others = [p for p in self.manager.get_plugins() if p is not module]
            caller = self.manager.subset_hook_caller("swm_register", others)
            caller(register=partial(self.registry.register, origin=origin, rivals=rivals))
            if origin != BUILTIN_ORIGIN and isinstance(module, ModuleType):
                # Now, while what is on the disk is what was loaded.
                code_hash(module)
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
        self.loaded.append(LoadedPlugin(origin, api))

    def _check_hooks(self, module: ModuleType, origin: str) -> None:
        """Raise PluginError for a hook that is not ours, and for a plugin without any."""
        known = [name for name in vars(hookspecs) if name.startswith("swm_")]
        callers = self.manager.get_hookcallers(module) or []
        for caller in callers:
            if not caller.has_spec():
                raise PluginError(f"plugin {origin}: {unknown('hook', caller.name, known)}")
        if not callers and origin != BUILTIN_ORIGIN:
            raise PluginError(f"plugin {origin} has no hook: put @swm.hookimpl above one of {listed(known)}")

    def _guard_hooks(self, module: ModuleType, origin: str) -> None:
        """Let errors in the plugin's hooks name it. A wrapper around other hooks also sees theirs, and stays."""
        for caller in self.manager.get_hookcallers(module) or []:
            for hook in caller.get_hookimpls():
                if hook.plugin is module and not (hook.hookwrapper or hook.wrapper):
                    # pluggy has no place where an error is known together with its plugin.
                    hook.function = guarded(hook.function, origin, caller.name)  # type: ignore[misc,unused-ignore]


def load_plugins(files: Iterable[str | Path] = ()) -> Plugins:
    """The built-in plugins, the installed ones that `SWM_PLUGINS` admits, and the given files.

    An installed plugin that breaks, or that claims a built-in name, is listed in `Plugins.broken`; a name that two
    installed ones claim is an error when it is used. A file that breaks or clashes raises PluginError.
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
    entries = sorted(importlib.metadata.entry_points(group=GROUP), key=lambda e: (e.name, e.value))
    known = {name for entry in entries for name in _names(entry)}
    if wanted is not None and wanted - known:
        missing = listed(wanted - known)
        near = did_you_mean(missing, known)
        raise PluginError(f"{RESTRICT} names {missing}; installed plugins: {listed(e.name for e in entries)}.{near}")
    for entry in entries:
        if wanted is None or wanted & _names(entry):
            _load_entry(plugins, entry)


def _names(entry: importlib.metadata.EntryPoint) -> set[str]:
    """What the environment variable may call the plugin: its entry point, or its distribution where two share one."""
    return {entry.name, *([entry.dist.name] if entry.dist is not None else [])}


def _load_entry(plugins: Plugins, entry: importlib.metadata.EntryPoint) -> None:
    dist = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value
    origin = f"'{entry.name}' ({dist})"
    if entry.dist is not None:
        plugins.registry.sources[origin] = PluginSource(distribution=entry.dist.name, version=entry.dist.version)
    installed = [name for name in plugins.origins if name != BUILTIN_ORIGIN]
    try:
        module = entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        plugins.broken.append(BrokenPlugin(origin, f"{type(error).__name__}: {error}"))
        return
    try:
        # Two distributions may have given their entry points one name.
        plugins._add(module, origin, origin, rivals=installed)
    except PluginError as error:
        plugins.broken.append(BrokenPlugin(origin, str(error).removeprefix(f"plugin {origin}: ")))
