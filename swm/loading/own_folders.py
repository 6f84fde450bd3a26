"""Folders that swm wrote with layers of their own shapes: read as their stock class, without the code beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from swm.errors import ModelError, brief, listed
from swm.loading.model_class import stock_class
from swm.loading.source import ModelSource
from swm.model.own_layers import OWN_LAYERS, OwnLayers, as_stock, class_with, own_layers
from swm.model.quiet import quiet_transformers

# The type of a model with own layers is that of its class with this before it, or another with the class beside it.
PREFIX, STOCK_TYPE = "swm_", "swm_model_type"
# The keys of the path of the layers, and of the names of buffers that lie with the weights.
STACK, BUFFERS = "swm_stack", "swm_buffers"
# What belongs to the code beside the weights.
OF_CODE = ("model_type", "auto_map", "architectures", "per_layer_config", OWN_LAYERS, STOCK_TYPE, STACK, BUFFERS)


def read_config(source: ModelSource) -> Mapping[str, Any]:
    """What config.json says. Raises ModelError when it cannot be read."""
    try:
        said = json.loads((source.folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"config of model '{source.name}' cannot be read: {brief(error)}") from error
    return said if isinstance(said, dict) else {}


def has_own_layers(said: Mapping[str, Any]) -> bool:
    """Whether a config is one that swm wrote for layers of their own shapes."""
    return isinstance(said.get(OWN_LAYERS), list) and (
        STOCK_TYPE in said or str(said.get("model_type", "")).startswith(PREFIX)
    )


def own_config(source: ModelSource, said: Mapping[str, Any]) -> Any:
    """The config of the stock class that a model with own layers is made from, with what its layers have of their own.

    Raises ModelError when it cannot be read.
    """
    from transformers import AutoConfig, PreTrainedConfig

    left_out = set(OF_CODE)
    if "rope_parameters" in said:
        # Beside it stands the same as older versions of transformers read it.
        left_out |= {"rope_scaling", "rope_theta"}
    kind = str(said.get(STOCK_TYPE) or str(said["model_type"]).removeprefix(PREFIX))
    try:
        own = OwnLayers(said[OWN_LAYERS], said.get(STACK, ""), said.get(BUFFERS, ()), source.rebuilds)
        with quiet_transformers():
            # Numbers that JSON has not are written in a way of their own.
            stored, _ = PreTrainedConfig.get_config_dict(source.folder)
            config = AutoConfig.for_model(kind, **{k: v for k, v in stored.items() if k not in left_out})
    except Exception as error:  # each architecture checks its config with errors of its own
        raise ModelError(f"config of model '{source.name}' cannot be read: {brief(error)}") from error
    setattr(config, OWN_LAYERS, own)
    return config


def check_rebuilds(source: ModelSource, config: Any) -> None:
    """Raise ModelError for modules in place of projections that no plugin makes here."""
    own = own_layers(config)
    unknown = sorted(own.replaces() - set(source.rebuilds)) if own is not None else []
    if unknown:
        raise ModelError(
            f"model '{source.name}' holds modules in place of projections ({', '.join(unknown)}), and no plugin here "
            f"makes such; installed ones make {listed(source.rebuilds)}. Install the plugin that replaced them"
        )


def empty_own(config: Any, own: OwnLayers) -> Any:
    """The model of a config with own layers, without weights. Call it where tensors are made on the meta device."""
    parent = stock_class(config)
    return as_stock(class_with(own, parent)._from_config(config), own, parent)


def load_own(config: Any, own: OwnLayers, folder: Any, options: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """A model with own layers and what transformers says of its weights.

    Args:
        config: The config of its stock class.
        own: What its layers have of their own.
        folder: The folder of its weights.
        options: What else `from_pretrained` is told.
    """
    parent = stock_class(config)
    model, report = class_with(own, parent).from_pretrained(folder, config=config, **options)
    return as_stock(model, own, parent), report
