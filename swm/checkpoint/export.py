"""The form in which a compressed model is saved, so that others can load it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from swm.checkpoint.coming import Coming
from swm.checkpoint.layout import LAYOUTS, Layout, is_uneven, misfit, parts_refusal, refusal, stand_in
from swm.checkpoint.modelling import Export, custom_export
from swm.errors import CheckpointError
from swm.loading.model_class import stock_class
from swm.model.blocks import any_removed
from swm.model.expert_surgery import uneven_experts
from swm.model.layer import Layer
from swm.model.quiet import quiet_transformers
from swm.model.rebuilt import rebuilt
from swm.model.shape import geometries
from swm.model.units import BLOCKS, ChannelSlice, Geometry, Part
from swm.model.view import ModelView
from swm.model.width_fields import set_widths, widest_geometry


def export(view: ModelView, layout: Layout = "native") -> Export:
    """The model in the asked form. Raises CheckpointError, which names the ways out, when that form cannot hold it."""
    check_layout(view, layout)
    shapes = geometries(view)
    uneven, replaced, removed = is_uneven(view) or uneven_experts(view), any(view.replaced), any_removed(view)
    if LAYOUTS[layout].true_shapes and (uneven or replaced or removed or misfit(view)):
        return custom_export(view, shapes, LAYOUTS[layout].form)
    about: dict[str, Any] = {"older_names": view.family.older_names, "tower": view.family.tower, "memory": view.memory}
    if removed:
        return Export(padded_model(view, shapes), padded=True, **about)
    if not shapes:
        return Export(view.model, **about)
    if uneven:
        return Export(padded_model(view, shapes), padded=True, **about)
    return Export(_native_model(view), multiplied=replaced, **about)


def check_layout(view: ModelView, layout: Layout, written: str = "layout: ") -> None:
    """Raise CheckpointError, which names the ways out, for a layout that cannot hold the shapes of the layers.

    `written` is what stands before a layout where the user writes it. Needs no weights.
    """
    row = LAYOUTS[layout]
    if row.true_shapes and any(view.replaced) and not row.replaced:
        raise CheckpointError(_replaced_ways(written))
    refused = row.refusal(view, Coming())
    if refused:
        raise CheckpointError(refused)
    if row.true_shapes:
        return
    experts, removed = uneven_experts(view), any_removed(view)
    uneven = is_uneven(view) or experts
    if removed and (not row.zeros or any(view.replaced)):
        zeros = f"{written}padded (zeros in their place: loads everywhere, no gain in size) or "
        raise CheckpointError(
            "attention or MLPs were removed, which no stock class can leave out; choose "
            f"{'' if any(view.replaced) else zeros}{written}custom (without them, with a small modelling file, loads "
            "with trust_remote_code)"
        )
    if any(view.replaced) and (uneven or not row.replaced):
        raise CheckpointError(_replaced_ways(written))
    wrong = "" if uneven else misfit(view)
    if wrong:
        raise CheckpointError(
            f"no config of the model's class says what its layers are now: {wrong}; choose {written}custom (true "
            "shapes with a small modelling file, loads with trust_remote_code)"
        )
    shapes = geometries(view)
    parts: list[Part] = [part for part in BLOCKS if len({shape.units(part) for shape in shapes} - {0}) > 1]
    refused = parts_refusal(view.family, parts, True, layout) if row.zeros else ""
    if experts:
        refused = parts_refusal(view.family, ["experts"], True, layout)
    if uneven and refused:
        raise CheckpointError(refused)
    if uneven and not row.zeros:
        raise CheckpointError(
            f"layers have different widths, which no stock class can load; choose {written}padded (zero-padded to the "
            f"widest layer: loads everywhere, no gain in size) or {written}custom (true shapes with a small modelling "
            "file, loads with trust_remote_code), or prune with uniform: true"
        )


def _replaced_ways(written: str) -> str:
    return (
        f"projections were replaced by modules that no stock class knows; choose {written}factored (as they are, "
        f"with a small modelling file, loads with trust_remote_code) or, with even widths, {written}merged "
        "(multiplied out: loads everywhere, no gain in size)"
    )


def _native_model(view: ModelView) -> Any:
    """The model itself, or its parameters in a stock class that takes them."""
    replaced = any(view.replaced)
    why = refusal(view.model_config, view.family, widest_geometry(geometries(view)))
    if not why and not replaced:
        return view.model
    other = stand_in(view.config, view.family)
    if why and other is None:
        raise CheckpointError(f"model_type '{view.config.model_type}' refuses these head counts: {why}")
    state = dense_state(view) if replaced else view.model.state_dict()
    return as_model_type(view.model, other, state) if why and other else _refilled(view, state)


def dense_state(view: ModelView) -> dict[str, Tensor]:
    """All tensors of the model, with the one matrix that does the same in place of each replaced projection."""
    state = dict(view.model.state_dict())
    for position, replaced in enumerate(view.replaced):
        for path in replaced:
            prefix = f"{view.family.layers}.{position}.{path}."
            module: Any = view.layers[position].get_submodule(path)
            state = {key: value for key, value in state.items() if not key.startswith(prefix)}
            dense = dict(module.dense_state())
            if view.family.transposed:
                dense["weight"] = dense["weight"].T.contiguous()
            state.update({prefix + name: view.memory.keep(value) for name, value in dense.items()})
    return state


def _refilled(view: ModelView, state: Mapping[str, Tensor]) -> Any:
    return _filled(type(view.model), copy.deepcopy(view.model_config), view.model, state)


def as_model_type(model: Any, model_type: str, state: Mapping[str, Tensor] | None = None) -> Any:
    """The same parameters, or `state`, in the class of another model type."""
    from transformers import AutoConfig

    values = model.config.to_dict()
    for name in ("model_type", "architectures", "attention_bias", "mlp_bias", "pretraining_tp"):
        values.pop(name, None)
    config = AutoConfig.for_model(model_type, **{**values, "sliding_window": None})
    return _filled(stock_class(config), config, model, model.state_dict() if state is None else state)


def _filled(kind: Any, config: Any, model: Any, state: Mapping[str, Tensor]) -> Any:
    """A new model that holds the given tensors themselves.

    Args:
        kind: The class of the new model.
        config: The config of the new model.
        model: The model that the tensors come from, with its generation settings and its buffers.
        state: All tensors of the new model by name.
    """
    with torch.device("meta"), quiet_transformers():
        result = kind._from_config(config, dtype=model.dtype)
    result.load_state_dict(state, strict=True, assign=True)
    result.tie_weights()
    result.generation_config = model.generation_config
    if kind is type(model) and hasattr(model, "_weight_conversions"):
        # Under which names the weights came, and go again.
        result._weight_conversions = model._weight_conversions
    # Buffers that are no part of the state are made from the config, not loaded; what is gone needs none.
    for name, buffer in list(result.named_buffers()):
        if buffer.is_meta:
            owner, _, leaf = name.rpartition(".")
            own = dict(model.named_buffers()).get(name)
            value = torch.zeros_like(buffer, device=model.device) if own is None else own
            result.get_submodule(owner).register_buffer(leaf, value, persistent=False)
    return result.eval()


def padded_model(view: ModelView, shapes: list[Geometry]) -> Any:
    """A model of uniform width whose additional heads and channels, and sub-blocks that are gone, are zero."""
    cut = BLOCKS if view.family.prunable_heads else ("mlp",)
    if len(cut) > 1 and len({shape.queries for shape in shapes if shape.heads}) > 1:
        raise CheckpointError(
            "layers have different numbers of query heads to a KV head, which zeros behind them cannot even out; "
            "choose layout: custom, or remove query heads with uniform: true"
        )
    config, state = copy.deepcopy(view.model_config), dict(view.model.state_dict())
    widest = widest_geometry(shapes)
    if widest.heads:
        widest = _accepted_geometry(view, widest)
    for position in range(len(shapes)):
        layer = view.layer(position)
        for part in (part for part in cut if layer.units(part)):
            for key, value in _padded_part(view, layer, widest, part):
                state[f"{view.family.layers}.{position}.{view.family.native(key)}"] = value
    set_widths(config, view.family, widest)
    if any_removed(view):
        # A config that was saved names its dtype by a string, which not every class takes.
        config.dtype = view.dtype
        state = _with_zeros(state, rebuilt(view.model, copy.deepcopy(config)), view)
    return _filled(type(view.model), config, view.model, state)


def _with_zeros(state: dict[str, Tensor], whole: nn.Module, view: ModelView) -> dict[str, Tensor]:
    """The tensors, and zeros for those of the layers that a model with all of its sub-blocks holds besides."""
    prefix = f"{view.family.layers}."
    missing = {k: v for k, v in whole.state_dict().items() if k not in state and k.startswith(prefix)}
    kinds = {key: view.dtype if value.is_floating_point() else value.dtype for key, value in missing.items()}
    zeros = {key: view.memory.empty(value.shape, kinds[key], view.device).zero_() for key, value in missing.items()}
    return {**state, **zeros}


def _accepted_geometry(view: ModelView, widest: Geometry) -> Geometry:
    """The geometry with as many more heads as the family's own class asks for.

    Raises CheckpointError when it refuses even one head a hidden channel, for then something else is wrong.
    """

    def with_heads(kv_heads: int) -> Geometry:
        return replace(widest, heads=kv_heads * widest.queries, kv_heads=kv_heads)

    most = max(view.config.hidden_size // widest.queries, widest.kv_heads)
    for shape in map(with_heads, (widest.kv_heads, most)):
        why = refusal(view.model_config, view.family, shape)
        if not why:
            break
    else:
        raise CheckpointError(
            f"model_type '{view.config.model_type}' refuses its own config with {widest.heads} heads and with more: "
            f"{why}; choose layout: custom"
        )
    counts = range(widest.kv_heads, most + 1)
    return next(shape for shape in map(with_heads, counts) if not refusal(view.model_config, view.family, shape))


def _padded_part(view: ModelView, layer: Layer, widest: Geometry, part: Part) -> Iterator[tuple[str, Tensor]]:
    """The parameters of a part with zero channels behind each block of channels, made one by one where they lie."""
    blocks: dict[str, list[ChannelSlice]] = {}
    for piece in layer.slices(part):
        blocks.setdefault(piece.key, []).append(piece)
    for key, pieces in blocks.items():
        value, dim = layer.state[key], pieces[0].dim
        sizes = [piece.unit_size * widest.units(part) for piece in pieces]
        shape = [sum(sizes) if d == dim else n for d, n in enumerate(value.shape)]
        if list(value.shape) == shape:
            continue
        wide, start = view.memory.empty(shape, value.dtype, value.device).zero_(), 0
        for piece, size in zip(pieces, sizes, strict=True):
            wide.narrow(dim, start, piece.channels).copy_(value.narrow(dim, piece.offset, piece.channels))
            start += size
        yield key, wide
