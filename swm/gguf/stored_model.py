"""A model folder as it is stored: its config and the shapes of its tensors, without any code that came with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from swm.errors import ModelError
from swm.loading.config import load_config
from swm.loading.own_folders import has_own_layers, own_config, read_config
from swm.loading.source import ModelSource
from swm.loading.weights import StoredWeights
from swm.model.families import ModelFamily, find_family
from swm.model.own_layers import own_layers


@dataclass(frozen=True)
class StoredModel:
    """A folder: its config in the stock class, the row of its family, and its shapes by the names of its tensors."""

    source: ModelSource
    config: Any
    family: ModelFamily
    shapes: Mapping[str, tuple[int, ...]]
    dtype: str

    def weights(self) -> AbstractContextManager[StoredWeights]:
        """The tensors, each read when it is asked for."""
        return StoredWeights(self.source.name, self.source.folder)


def read_folder(source: ModelSource, families: Sequence[ModelFamily]) -> StoredModel:
    """Read all of a folder but the numbers of its weights.

    Raises ModelError for a model whose layers hold modules that only code beside it knows.
    """
    said = read_config(source)
    config = own_config(source, said) if has_own_layers(said) else load_config(source)
    _check_modules(source, config)
    family = find_family(config, families)
    check_text_alone(StoredModel(source, config, family, {}, ""))
    with StoredWeights(source.name, source.folder) as stored:
        shapes = dict(sorted(stored.shapes().items(), key=lambda item: _in_order(item[0])))
        dtype = stored.dtype_of(max(shapes, key=lambda name: _size(shapes[name])))
    return StoredModel(source, config, family, shapes, dtype)


def check_text_alone(model: StoredModel) -> None:
    """Raise ModelError for a model of several parts."""
    if model.family.tower:
        raise ModelError(
            f"model '{model.source.name}' is of several parts (model_type '{model.config.model_type}'); a GGUF file "
            "holds the text model alone, and what it says with images would be lost"
        )


def _check_modules(source: ModelSource, config: Any) -> None:
    """Raise ModelError for modules in place of projections."""
    own = own_layers(config)
    if own is not None and own.replaces():
        raise ModelError(
            f"model '{source.name}' holds modules in place of projections ({', '.join(sorted(own.replaces()))}), which "
            "no GGUF architecture has; save it with layout: merged (multiplied out), then export that"
        )


def _in_order(name: str) -> list[tuple[int, str]]:
    """Layers by their numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"\.", name)]


def _size(shape: Sequence[int]) -> int:
    size = 1
    for count in shape:
        size *= count
    return size
