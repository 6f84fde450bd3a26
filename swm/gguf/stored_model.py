"""A model folder as it is stored: its config and the shapes of its tensors, without any code that came with it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from swm.errors import ModelError, brief
from swm.loading.config import load_config
from swm.loading.source import ModelSource
from swm.loading.weights import StoredWeights
from swm.model.families import ModelFamily, find_family
from swm.model.quiet import quiet_transformers

# The type of a model with layers of their own shapes is that of its class with this before it.
OWN_SHAPES = "swm_"
# What the code of such a folder does to a layer that needs no other module than the stock ones.
KNOWN_CHANGES = {"widths", "resize", "remove_blocks"}


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
    said = _read_config(source)
    config = _stock_config(source, said) if _has_own_shapes(said) else load_config(source)
    family = find_family(config, families)
    if family.tower:
        raise ModelError(
            f"model '{source.name}' is of several parts (model_type '{config.model_type}'); a GGUF file holds the text "
            "model alone, and what it says with images would be lost"
        )
    with StoredWeights(source.name, source.folder) as stored:
        shapes = dict(sorted(stored.shapes().items(), key=lambda item: _in_order(item[0])))
        dtype = stored.dtype_of(max(shapes, key=lambda name: _size(shapes[name])))
    return StoredModel(source, config, family, shapes, dtype)


def _has_own_shapes(said: Mapping[str, Any]) -> bool:
    return str(said.get("model_type", "")).startswith(OWN_SHAPES) and isinstance(said.get("swm_layers"), list)


def _stock_config(source: ModelSource, said: Mapping[str, Any]) -> Any:
    """The config of the class that the model with own shapes is made from."""
    from transformers import AutoConfig

    replaced = sorted({change for layer in said["swm_layers"] for change in layer} - KNOWN_CHANGES)
    if replaced:
        raise ModelError(
            f"model '{source.name}' holds modules in place of projections ({', '.join(replaced)}), which no GGUF "
            "architecture has; save it with layout: merged (multiplied out), then export that"
        )
    left_out = {"model_type", "auto_map", "architectures", "per_layer_config"}
    if "rope_parameters" in said:
        # Beside it stands the same as older versions of transformers read it.
        left_out |= {"rope_scaling", "rope_theta"}
    values = {key: value for key, value in said.items() if key not in left_out}
    try:
        with quiet_transformers():
            return AutoConfig.for_model(str(said["model_type"]).removeprefix(OWN_SHAPES), **values)
    except Exception as error:  # each architecture checks its config with errors of its own
        raise ModelError(f"config of model '{source.name}' cannot be read: {brief(error)}") from error


def _read_config(source: ModelSource) -> Mapping[str, Any]:
    try:
        said = json.loads((source.folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"config of model '{source.name}' cannot be read: {brief(error)}") from error
    return said if isinstance(said, dict) else {}


def _in_order(name: str) -> list[tuple[int, str]]:
    """Layers by their numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"\.", name)]


def _size(shape: Sequence[int]) -> int:
    size = 1
    for count in shape:
        size *= count
    return size
