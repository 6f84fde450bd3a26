"""A plugin's module: imported from a single file, and the plugin API that it is written for."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Container
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from swm.errors import PluginError, quoted
from swm.plugins import hookspecs


class _AsWritten(SourceFileLoader):
    """Compiles the file as it is: the compiled one beside it is out of date after an edit within a second."""

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)


def import_file(file: Path, name: str, given: str) -> ModuleType:
    """Run a Python file as the module `name`. Raises PluginError with the path as it was `given`, and the cause."""
    spec = importlib.util.spec_from_file_location(name, file, loader=_AsWritten(name, str(file)))
    if spec is None or spec.loader is None or not file.suffix == ".py":
        raise PluginError(f"plugin file {given} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses with postponed annotations look their module up while it runs.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise PluginError(f"plugin file {given}: {type(error).__name__}: {error}") from error
    return module


def api_version(module: ModuleType, origin: str, builtin: Container[str]) -> int | None:
    """The plugin API that the module says it is for, if any; that of swm for those that are `builtin`.

    Raises PluginError for one that this swm does not have.
    """
    api = getattr(module, "swm_api", None)
    if api is None and module.__name__ in builtin:
        return hookspecs.API_VERSION
    if api is None:
        return None
    if not isinstance(api, int) or isinstance(api, bool) or api < 1:
        raise PluginError(f"plugin {origin}: found swm_api = {quoted(api)}; it is a number, as in swm_api = 1")
    oldest, newest = hookspecs.OLDEST_API, hookspecs.API_VERSION
    if not oldest <= api <= newest:
        takes = f"{oldest} to {newest}" if oldest < newest else str(newest)
        remedy = "upgrade swm" if api > newest else "upgrade the plugin"
        raise PluginError(f"plugin {origin}: it is written for plugin API {api}; this swm has {takes}; {remedy}")
    return api
