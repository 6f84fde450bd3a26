"""What is installed, and which plugins are broken."""

from __future__ import annotations

import importlib.metadata
import os
from typing import Any

import torch

from swm.commands.model_diagnosis import diagnose_model
from swm.errors import listed
from swm.files.cache_folder import cache_folder
from swm.interfaces.progress import Progress
from swm.loading import models
from swm.plugins.hookspecs import API_VERSION
from swm.plugins.loading import RESTRICT, Plugins
from swm.plugins.registry import BUILTIN_ORIGIN
from swm.version import __version__

LIBRARIES = ("torch", "transformers", "peft", "torch-pruning", "lm-eval", "safetensors", "pluggy", "pydantic")


def diagnose(
    plugins: Plugins, model: str | None, progress: Progress, trust_remote_code: bool = False
) -> dict[str, dict[str, Any]]:
    """Sections of findings: installation, plugins, and the model if one is named.

    Args:
        plugins: What is installed.
        model: A hub id, a folder, a GGUF file or a registered name.
        progress: Shows what takes long.
        trust_remote_code: Whether the model's own code may run.
    """
    findings: dict[str, dict[str, Any]] = {"installation": _installation(), "plugins": _plugins(plugins)}
    contested = plugins.registry.contested()
    if contested:
        findings["name clashes"] = {
            f"{kind} '{name}'": f"claimed by {' and by '.join(origins)}: it means neither until {RESTRICT} says which"
            for (kind, name), origins in contested.items()
        }
    replaced = plugins.registry.replaced_rows()
    if replaced:
        findings["family rows"] = {
            f"model_type {kind}": f"the row of {origin} stands in place of swm's own"
            for kind, origin in replaced.items()
        }
    if model is not None:
        findings[f"model {model}"] = diagnose_model(plugins.registry, model, progress, trust_remote_code)
    return findings


def _installation() -> dict[str, Any]:
    findings: dict[str, Any] = {"swm": f"{__version__} (plugin API {API_VERSION})"}
    for name in LIBRARIES:
        try:
            findings[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            findings[name] = "not installed"
    findings["device"] = str(models.pick_device("auto"))
    findings["threads"] = torch.get_num_threads()
    findings["cache"] = str(cache_folder())
    return findings


def _plugins(plugins: Plugins) -> dict[str, Any]:
    findings: dict[str, Any] = {}
    for plugin in plugins.loaded:
        brought = plugins.registry.brought_by(plugin.origin)
        if plugin.origin == BUILTIN_ORIGIN:
            findings[plugin.origin] = "; ".join(f"{kind}: {len(names)}" for kind, names in sorted(brought.items()))
            continue
        strategies = (
            "; ".join(f"{kind} {listed(names)}" for kind, names in sorted(brought.items())) or "life-cycle hooks"
        )
        api = "" if plugin.api == API_VERSION else f" ({_api_note(plugin.api)})"
        findings[plugin.origin] = f"{strategies}{api}"
    findings.update({broken.origin: f"broken: {broken.error}" for broken in plugins.broken})
    if RESTRICT in os.environ:
        findings[RESTRICT] = os.environ[RESTRICT] or "(empty: no installed plugin)"
    return findings


def _api_note(api: int | None) -> str:
    if api is None:
        return f"states no plugin API version; swm_api = {API_VERSION} in its module would"
    return f"written for plugin API {api}, which this swm still takes; its own is {API_VERSION}"
