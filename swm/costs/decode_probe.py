"""One layer of a model, filled with random weights, that decodes a token after some context: what is timed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from swm.errors import FamilyError, brief
from swm.model.expert_channels import keep_expert_channels
from swm.model.kv_cache import kv_cache_of
from swm.model.quiet import quiet_transformers
from swm.model.surgery import keep_layers
from swm.model.units import Part
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units

# Weights of the size that trained ones have: zeros and denormal numbers are computed at other speeds.
SPREAD = 0.02


def one_layer(dense: ModelView, position: int, part: Part | None = None, kept: int = 0) -> ModelView:
    """A model without weights of that layer alone, with so many units of a part; the dense model is not changed.

    Args:
        dense: The model, without its weights.
        position: Where the layer stands.
        part: The part that loses units; None for none.
        kept: How many stay.
    """
    view = ModelView(copy.deepcopy(dense.model), dense.family)
    keep_layers(view, [position])
    if part == "expert_channels":
        keep_expert_channels(view, 0, [list(range(kept))] * view.layer(0).units("experts"))
    elif part is not None:
        layer = view.layer(0)
        groups = layer.geometry.kv_heads if part == "queries" else 1
        each = layer.units(part) // groups
        keep_units(view, 0, part, [g * each + i for g in range(groups) for i in range(kept // groups)])
    return view


@torch.no_grad()
def decoding(view: ModelView, context: int, dtype: torch.dtype) -> Callable[[], None]:
    """What runs the model's one layer on one token after so many others.

    Args:
        view: The model of one layer, without weights; its layer gets random ones.
        context: How many tokens its cache holds.
        dtype: The type of the weights.

    Raises:
        FamilyError: A model of this type cannot be run like that.
    """
    body, layer = view.body, view.layers[0]
    generator = torch.Generator().manual_seed(0)
    model: Any = view.model
    embedding = model.get_input_embeddings()
    for module in body.modules():
        if module is not embedding:
            _fill(module, dtype, generator)
    calls: list[tuple[Any, Any]] = []
    width = embedding.weight.shape[1]
    try:
        with quiet_transformers():
            states = torch.randn(1, context, width, generator=generator).to(dtype)
            handed = kv_cache_of(body(inputs_embeds=states, use_cache=True))
            [cache] = handed.values()
            kept = [dict(vars(one)) for one in cache.layers]
            handle = layer.register_forward_pre_hook(
                lambda module, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
            )
            try:
                body(inputs_embeds=states[:, :1], use_cache=True, **handed)
            finally:
                handle.remove()
        [(args, kwargs)] = calls
    except Exception as error:  # each architecture fails in its own way on what it was not made for
        raise FamilyError(
            f"a layer of model_type '{view.config.model_type}' cannot be run alone, so its decode time cannot be "
            f"measured: {type(error).__name__}: {brief(error)}; use a target in params, ratio or memory"
        ) from error

    def run() -> None:
        for one, state in zip(cache.layers, kept, strict=True):
            vars(one).update(state)
        with torch.no_grad():
            layer(*args, **kwargs)

    return run


def _fill(module: nn.Module, dtype: torch.dtype, generator: torch.Generator) -> None:
    for name, value in module.named_parameters(recurse=False):
        kind = dtype if value.is_floating_point() else value.dtype
        fresh = torch.randn(value.shape, generator=generator).mul_(SPREAD).to(kind)
        setattr(module, name, nn.Parameter(fresh, requires_grad=False))
    for name, buffer in module.named_buffers(recurse=False):
        vars(module)["_buffers"][name] = torch.zeros(buffer.shape, dtype=buffer.dtype)


def scoring(rows: int, width: int, dtype: torch.dtype) -> Callable[[], None]:
    """What makes the scores of so many tokens from one state of this width."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, width, generator=generator).mul_(SPREAD).to(dtype)
    state = torch.randn(1, 1, width, generator=generator).to(dtype)

    def run() -> None:
        with torch.no_grad():
            nn.functional.linear(state, weight)

    return run
