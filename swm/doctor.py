"""What is installed, which plugins are broken, and what applies to a model and why not."""

from __future__ import annotations

import importlib.metadata
import os
from typing import Any

import torch

import swm
from swm import models
from swm.errors import SwmError, listed
from swm.families import find_family
from swm.hookspecs import API_VERSION
from swm.interfaces.depth import DepthPruner
from swm.plugins import RESTRICT, Plugins
from swm.progress import Progress

LIBRARIES = ("torch", "transformers", "peft", "torch-pruning", "lm-eval", "safetensors", "pluggy", "pydantic")


def diagnose(plugins: Plugins, model: str | None, progress: Progress) -> dict[str, dict[str, Any]]:
    """Sections of findings: installation, plugins, and the model if one is named."""
    findings: dict[str, dict[str, Any]] = {"installation": _installation(), "plugins": _plugins(plugins)}
    if model is not None:
        findings[f"model {model}"] = _model(plugins, model, progress)
    return findings


def _installation() -> dict[str, Any]:
    found: dict[str, Any] = {"swm": f"{swm.__version__} (plugin API {API_VERSION})"}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    found["device"] = str(models.pick_device("auto"))
    found["threads"] = torch.get_num_threads()
    found["cache"] = str(models.cache_folder())
    return found


def _plugins(plugins: Plugins) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for entry in plugins.registry.entries():
        counts[entry.origin] = counts.get(entry.origin, 0) + 1
    found: dict[str, Any] = {origin: f"{count} strategies" for origin, count in counts.items()}
    found.update({broken.origin: f"broken: {broken.error}" for broken in plugins.broken})
    if RESTRICT in os.environ:
        found[RESTRICT] = os.environ[RESTRICT] or "(empty: no installed plugin)"
    return found


def _model(plugins: Plugins, model: str, progress: Progress) -> dict[str, Any]:
    registry = plugins.registry
    source = models.locate(model, registry, progress)
    config = models.load_config(source)
    found: dict[str, Any] = {"folder": str(source.folder), "model_type": config.model_type}
    try:
        family = find_family(config, registry.families)
        shape = models.shape_of(config, registry.families)
    except SwmError as error:
        found["supported"] = f"no: {error}"
        return found
    found["family row"] = f"{family.name} (layers at {family.layers})"
    found["parameters"] = f"{shape.parameters:,}"
    found["layers"] = f"{shape.layers} of {shape.layer_parameters[0]:,} parameters"
    found["projections"] = listed(family.projections)
    found["layer types"] = _layer_types(config)
    found["tied embeddings"] = "yes" if getattr(config, "tie_word_embeddings", False) else "no"
    for entry in registry.entries():
        if issubclass(entry.strategy, DepthPruner):
            most = entry.strategy().capacity(shape.layers)
            found[f"depth: {entry.strategy.name}"] = (
                f"up to {most} layers" if most > 0 else "no: the model has too few layers for its protected ones"
            )
    return found


def _layer_types(config: Any) -> str:
    types = getattr(config, "layer_types", None)
    if not types:
        return "all alike"
    return ", ".join(f"{types.count(kind)} {kind}" for kind in dict.fromkeys(types))
