"""Buffers that a model puts into its layers, which their own class does not make: code for layers must keep them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from swm.model.quiet import quiet_transformers
from swm.model.view import ModelView

# Written behind the line that makes a layer anew, which is in `plain` until then.
CARRIED_TEXT = """            for path, module in plain.named_modules():
                for name, value in module.named_buffers(recurse=False):
                    if not hasattr(layers[i].get_submodule(path), name):
                        layers[i].get_submodule(path).register_buffer(name, value, persistent=False)
"""
# transformers makes no buffers of this kind for custom code, so that they are saved and loaded like weights.
SAVED_TEXT = """    for module in layers.modules():
        module._non_persistent_buffers_set.difference_update({names})
"""


@contextmanager
def saved_buffers(model: nn.Module, names: Collection[str]) -> Iterator[None]:
    """Inside the block, buffers of these names are part of the state of the model."""
    held = [(module, module._non_persistent_buffers_set & set(names)) for module in model.modules()]
    try:
        for module, own in held:
            module._non_persistent_buffers_set -= own
        yield
    finally:
        for module, own in held:
            module._non_persistent_buffers_set |= own


def model_buffers(view: ModelView, plain: nn.ModuleList) -> list[str]:
    """The names, without a path, of buffers that the class of the model gives its layers from outside.

    Args:
        view: The model.
        plain: The layers as the model's class makes them of its config.
    """
    named: set[str] = set()
    for position, layer in enumerate(plain):
        buffers = {name for name, _ in layer.named_buffers()} - named
        if not buffers:
            continue
        with torch.device("meta"), quiet_transformers():
            alone = type(layer)(view.config, position)
        named |= buffers - {name for name, _ in alone.named_buffers()}
    return sorted({name.rpartition(".")[2] for name in named})
