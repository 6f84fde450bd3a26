"""From what the user calls a model to the folder that holds it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swm.errors import ModelError, brief, did_you_mean, listed, nearest_file
from swm.files.cache_folder import cache_folder
from swm.interfaces.progress import Progress
from swm.interfaces.provider import ModelProvider
from swm.loading.gguf_file import convert_gguf
from swm.loading.given import GivenModel, was_in_memory
from swm.loading.weights import check_folder
from swm.model.replacement import Rebuild
from swm.paths import expanded, is_file, is_folder
from swm.plugins.registry import Registry, require_interface

HUB_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.py", "LICENSE*", "NOTICE*", "README.md")


@dataclass(frozen=True)
class ModelSource:
    """What the user named, and the Hugging Face folder that holds it.

    `rebuilds` make the modules that stages of plugins put in place of projections, by name.
    """

    name: str
    folder: Path
    rebuilds: Mapping[str, Rebuild] = field(default_factory=dict)
    given: GivenModel | None = None
    """The model object that the user gave in place of a name; the folder holds what lies beside its weights."""


def locate(name: str, registry: Registry, progress: Progress, given: GivenModel | None = None) -> ModelSource:
    """Find the model: a registered name, a folder, a GGUF file, or a hub id, in this order.

    GGUF files are converted once into the cache.

    Args:
        name: What the user calls the model.
        registry: The names of models that are known.
        progress: Shows what takes long.
        given: The model object that the user gave in place of a name.

    Raises:
        ModelError: Says what was tried, or what of the folder is no model that can be read.
    """
    if given is not None:
        return ModelSource(given.name, given.folder, _rebuilds(registry), given)
    if was_in_memory(name):
        raise ModelError(
            f"'{name}' was an object in the memory of a Python process, which a file can only describe; give the model "
            "that it was: save it, and name its folder"
        )
    if name in registry.names("model"):
        path = require_interface(ModelProvider, registry.build("model", name)).locate()
    else:
        path = expanded(name)
        if not is_file(path) and not is_folder(path):
            path = _download(name, registry)
    if is_file(path):
        if path.suffix != ".gguf":
            raise ModelError(f"model {name} is a file; allowed: a folder, a .gguf file, a hub id, a registered name")
        return ModelSource(name, convert_gguf(path, cache_folder(), registry.families, progress))
    check_folder(name, path)
    return ModelSource(name, path, _rebuilds(registry))


def _rebuilds(registry: Registry) -> dict[str, Rebuild]:
    stages: list[Any] = [registry.strategy("stage", name) for name in registry.names("stage")]
    return {rebuild.name: rebuild for stage in stages for rebuild in stage.rebuilds}


def _download(name: str, registry: Registry) -> Path:
    known = registry.names("model")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        raise ModelError(
            f"model '{name}' is no folder, no .gguf file, no hub id (owner/name) and no registered name; "
            f"registered: {listed(known)}.{did_you_mean(name, known) or nearest_file(name)}"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # the hub client has a dozen errors that all mean: not to be had
        raise ModelError(
            f"model '{name}' is not on this machine and cannot be fetched from the hub "
            f"({type(error).__name__}: {brief(error)})"
        ) from error
