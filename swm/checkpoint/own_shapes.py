"""Layers whose parameters have other shapes than their class makes of any config."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from swm.model.view import ModelView


def own_shapes(layer: nn.Module, made: nn.Module) -> dict[str, Any]:
    """What `resize` must be told to make the layer of `made`; empty where all shapes are the same."""
    shapes = {path: value.shape for path, value in made.named_parameters()}
    changed = {
        path: list(value.shape)
        for path, value in layer.named_parameters()
        if path in shapes and shapes[path] != value.shape
    }
    if not changed:
        return {}
    plain, numbers = dict(made.named_modules()), {}
    for path, module in layer.named_modules():
        other = vars(plain[path]) if type(plain.get(path)) is type(module) else {}
        for name, value in vars(module).items():
            if type(value) is int and type(other.get(name)) is int and value != other[name]:
                numbers[f"{path}.{name}" if path else name] = value
    return {"shapes": changed, "numbers": numbers}


def made_of(view: ModelView, position: int, plain: nn.ModuleList, widths: Mapping[str, int]) -> nn.Module:
    """A layer without weights as its class makes it of these widths.

    Args:
        view: The model.
        position: Where the layer stands now.
        plain: The layers as the model's class makes them of its config.
        widths: The fields of the config that stand for this layer alone.
    """
    if not widths:
        return plain[position]
    own, kind = copy.copy(view.config), type(plain[position])
    for name, value in widths.items():
        setattr(own, name, value)
    with torch.device("meta"):
        made: nn.Module = kind(own, position)
    return made
