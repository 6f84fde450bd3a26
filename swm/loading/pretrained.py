"""Loading a model's weights, all of them and nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from swm.errors import ModelError, SwmError, brief
from swm.loading.config import load_config
from swm.loading.model_class import auto_class
from swm.loading.own_folders import load_own
from swm.loading.source import ModelSource
from swm.loading.special_ids import SPECIAL_IDS, correct_ids, embedding_count
from swm.loading.streaming import kept_by
from swm.loading.weights import check_folder, check_taken, converted_bytes, some
from swm.memory.working_memory import WorkingMemory
from swm.model.devices import pick_device
from swm.model.finite import all_finite
from swm.model.own_layers import own_layers
from swm.model.quiet import quiet_transformers

# Safetensors alone, and everything that does not fit said, not refused.
OPTIONS = {"use_safetensors": True, "ignore_mismatched_sizes": True, "output_loading_info": True}


def load_model(
    source: ModelSource,
    *,
    dtype: str = "auto",
    device: str = "auto",
    device_map: str | None = None,
    trust_remote_code: bool = False,
    memory: WorkingMemory | None = None,
) -> nn.Module:
    """Load all weights of a model and nothing else.

    On the CPU, what is stored as it is wanted is mapped from the files. The other tensors are made one at a time.

    Args:
        source: The folder of the model.
        dtype: The type of the weights, such as `bfloat16`; `auto` for that in which they are stored.
        device: Where the model goes, such as `cuda:1`; `auto` for the fastest there is.
        device_map: How transformers spreads the model over several devices, in place of `device`.
        trust_remote_code: Whether code in the model's folder may run.
        memory: Where tensors go that are not mapped from the model's files; into memory by default.

    Returns:
        The model in evaluation mode. Of a model object that was given, a copy that shares its numbers.

    Raises:
        SwmError: Neither memory nor the disk has room for weights of another type than they are stored in.
        ModelError: When weights cannot be read, are missing, left over, have another shape, or are not finite.
    """
    from transformers import GenerationConfig

    if source.given is not None:
        return source.given.loaded(dtype, device)
    check_folder(source.name, source.folder)
    config = load_config(source, trust_remote_code)
    architectures = getattr(config, "architectures", None)
    weight_dtype = "auto" if dtype == "auto" else getattr(torch, dtype)
    memory = memory or WorkingMemory()
    if device_map is None and pick_device(device).type == "cpu":
        kind: Any = getattr(config, "dtype", None) if dtype == "auto" else weight_dtype
        memory.check_room(0 if kind is None else converted_bytes(source.name, source.folder, kind))
    own, options = own_layers(config), {"dtype": weight_dtype, "device_map": device_map, **OPTIONS}
    options["generation_config"] = GenerationConfig()
    try:
        with quiet_transformers(), kept_by(memory):
            if own is not None:
                model, report = load_own(config, own, source.folder, options)
            else:
                model, report = auto_class(config, trust_remote_code).from_pretrained(
                    source.folder, config=config, trust_remote_code=trust_remote_code, **options
                )
    except SwmError:
        raise
    except Exception as error:  # damaged files, too little memory, code that came with the model
        raise ModelError(f"model '{source.name}' cannot be loaded: {type(error).__name__}: {brief(error)}") from error
    _check_present(source.name, model)
    check_taken(source.name, model, report, architectures)
    for name, value in model.named_parameters():
        if not all_finite(value):
            raise ModelError(f"model '{source.name}': weight {name} holds values that are not a number or infinite")
    if getattr(model.config, "tie_word_embeddings", False) and getattr(model, "_tied_weights_keys", None):
        # transformers leaves apart what is stored twice with different numbers, and says so in a warning alone.
        model.config.tie_word_embeddings = bool(getattr(model, "all_tied_weights_keys", True))
    model.generation_config = _generation_settings(source, model.config)
    loaded: nn.Module = model if device_map is not None else model.to(pick_device(device))
    return loaded.eval()


def _check_present(name: str, model: nn.Module) -> None:
    """Raise ModelError for weights that accelerate brings to a device only while their module runs."""
    away = [path for path, parameter in model.named_parameters() if parameter.is_meta]
    if away:
        raise ModelError(
            f"model '{name}' is too large for the devices of device_map, and {some(away)} would come to one only while "
            "they are used; swm reads and changes weights at other times too. Use device: cpu, where weights of any "
            "size are mapped from their files, or dtype: bfloat16, or more devices"
        )


def _generation_settings(source: ModelSource, config: Any) -> Any:
    """The settings that the model came with, or its special ids alone where transformers refuses them."""
    from transformers import GenerationConfig

    with quiet_transformers():
        try:
            settings = GenerationConfig.from_pretrained(source.folder)
        except OSError:
            settings = GenerationConfig.from_model_config(config)
        except Exception:  # settings that contradict each other, with which nobody could load the result either
            settings = GenerationConfig(**{name: getattr(config, name, None) for name in SPECIAL_IDS})
    correct_ids(settings, embedding_count(config))
    return settings
