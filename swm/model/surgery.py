"""The only code that changes a model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from swm.errors import PlanError
from swm.model.families import cut_config_to
from swm.model.layer import Layer
from swm.model.replacement import Replaced, Replacement
from swm.model.units import READERS, Part, block, check_units, features
from swm.model.view import ModelView
from swm.model.width_fields import module_widths, set_widths

Cutter = Callable[[ModelView, int, Part, Sequence[int]], None]


def positions(view: ModelView, numbers: Sequence[int]) -> list[int]:
    """Where the layers with these original numbers stand now; numbers already merged away are passed over."""
    return [i for i, number in enumerate(view.numbers) if number in set(numbers)]


def same_memory(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape and dtype are the same numbers in the same place."""
    return one.data_ptr() == other.data_ptr() and one.stride() == other.stride()


@torch.no_grad()
def merge_layers(view: ModelView, members: Sequence[int], survivor: int, state: Mapping[str, Tensor]) -> None:
    """Put `state` (canonical names) into the layer at position `survivor` and drop the other members."""
    for member in members:
        check_plain(view.layer(member))
    own = view.state(survivor)
    # A result may consist of tensors of these very layers, so all is read before any is written.
    fresh = {key: value.clone() for key, value in state.items() if not same_memory(value, own[key])}
    for key, value in fresh.items():
        own[key].copy_(value)
    view.ends[survivor] = view.ends[max(members)]
    gone = set(members) - {survivor}
    keep_layers(view, [i for i in range(len(view.layers)) if i not in gone])


def keep_layers(view: ModelView, kept: Sequence[int]) -> None:
    """Keep the layers at these positions, in order, and bring every index and config field into line."""
    layers = view.layers
    remaining = nn.ModuleList(layers[i] for i in kept)
    remaining.training = layers.training
    parent, _, name = view.family.layers.rpartition(".")
    cut_config_to(view.config, kept)
    setattr(view.model.get_submodule(parent), name, remaining)
    view.numbers = [view.numbers[i] for i in kept]
    view.ends = [view.ends[i] for i in kept]
    view.replaced = [view.replaced[i] for i in kept]
    for position, layer in enumerate(remaining):
        for module in layer.modules():
            # The key-value cache is addressed by it; a stale one raises IndexError in generate().
            if hasattr(module, "layer_idx"):
                setattr(module, "layer_idx", position)  # noqa: B010  a plain attribute, not a submodule


def replace_projection(view: ModelView, position: int, role: str, module: Any, told: Replaced) -> None:
    """Put a module in place of the projection with this canonical name (`attention.q`, `mlp.down`, ...).

    `told` says how the code in a saved folder makes it again. Raises PlanError when it does not fit.
    """
    family, layer = view.family, view.layer(position)
    if role not in family.projections:
        known = ", ".join(family.projections)
        raise PlanError(f"family row '{family.name}' has no projection '{role}'; it has {known}")
    path = family.projections[role]
    old, new = features(layer.projection(role)), (module.in_features, module.out_features)
    if not isinstance(module, Replacement) or old != new:
        raise PlanError(
            f"layer {layer.number}: what replaces {role} must be a Replacement of {old[0]} to {old[1]} features; "
            f"found {type(module).__name__} of {new[0]} to {new[1]}"
        )
    owner, _, name = path.rpartition(".")
    setattr(layer.module.get_submodule(owner), name, module)
    view.replaced[position][path] = told


def check_plain(layer: Layer) -> None:
    """Raise PlanError for a layer with replaced projections, whose units and whose sums with others are undefined."""
    if layer.replaced:
        names = ", ".join(layer.replaced)
        raise PlanError(
            f"layer {layer.number} has other modules in place of {names}; put the stage that replaces "
            "projections behind those that remove layers or widths"
        )


@torch.no_grad()
def refit_projection(view: ModelView, position: int, role: str, fitted: Mapping[str, Tensor]) -> None:
    """Write fitted parameters over those of a projection.

    Args:
        view: The model.
        position: Where the layer stands now.
        role: The canonical name of the projection.
        fitted: Its parameters by canonical name.

    Raises:
        PlanError: They are those of another projection, or have other shapes than the model's.
    """
    layer = view.layer(position)
    check_plain(layer)
    own = layer.state
    foreign = [key for key in fitted if key.rpartition(".")[0] != role]
    if foreign:
        raise PlanError(f"step refits {role} of layer {layer.number}; the tensors hold {foreign[0]}")
    for key, value in fitted.items():
        if key not in own or own[key].shape != value.shape:
            shape = tuple(own[key].shape) if key in own else "none"
            raise PlanError(f"layer {layer.number}: {key} fitted as {tuple(value.shape)}; the model has {shape}")
        own[key].copy_(value)


@torch.no_grad()
def keep_units(
    view: ModelView,
    position: int,
    part: Part,
    units: Sequence[int],
    biases: Mapping[str, Tensor] | None = None,
    cut: Cutter | None = None,
) -> None:
    """Keep these units of a part of a layer.

    Args:
        view: The model.
        position: Where the layer stands now.
        part: The part of the layer.
        units: The units that stay, ascending.
        biases: Biases (canonical names) that replace those of the layer, or are added.
        cut: Changes the weights in place of `cut_units`.

    Raises:
        PlanError: The shapes did not change as they must.
    """
    layer = view.layer(position)
    check_plain(layer)
    check_units(layer.geometry, part, units)
    _check_biases(layer, part, biases or {})
    added = [key for key in biases or {} if key not in layer.state]
    if added:
        # The config switch gives these biases to every layer.
        setattr(view.config, view.family.bias_switch[block(part)], True)
        for other in range(len(view.layers)):
            _add_biases(view.layer(other), added)
    (cut or cut_units)(view, position, part, units)
    for key, value in (biases or {}).items():
        set_parameter(layer.module, view.family.native(key), value)
    settle_widths(view)
    after = view.layer(position)
    if after.units(part) != len(units) or not _fits(after, part):
        raise PlanError(f"layer {layer.number}: the {part} cut did not give {len(units)} units everywhere")


def _check_biases(layer: Layer, part: Part, biases: Mapping[str, Tensor]) -> None:
    """Raise PlanError for what is no bias of the part's block, or of another width than its projection writes."""
    for key, value in biases.items():
        role, _, kind = key.rpartition(".")
        if kind != "bias" or role not in layer.family.projections or not role.startswith(f"{block(part)}."):
            raise PlanError(f"layer {layer.number}: '{key}' is no bias of its {block(part)} projections")
        written = features(layer.projection(role))[1]
        if value.dim() != 1 or (role in READERS.values() and len(value) != written):
            raise PlanError(
                f"layer {layer.number}: {key} is {tuple(value.shape)}; its projection writes {written} values"
            )


def cut_units(view: ModelView, position: int, part: Part, units: Sequence[int]) -> None:
    """Put the kept rows and columns in place of the whole projections."""
    layer = view.layer(position)
    for key, value in layer.state_of(part, units).items():
        if value is not layer.state[key]:
            set_parameter(layer.module, layer.family.native(key), value)


def _fits(layer: Layer, part: Part) -> bool:
    """Whether every projection of the part's block has just the channels of the layer's geometry."""
    slices = layer.slices(block(part))
    left = {(piece.key, piece.dim): layer.state[piece.key].shape[piece.dim] for piece in slices}
    for piece in slices:
        left[piece.key, piece.dim] -= piece.channels
    return not any(left.values())


def _add_biases(layer: Layer, keys: Sequence[str]) -> None:
    """Zero biases under these canonical names, as long as the projections are wide."""
    for key in keys:
        weight = layer.state[key.removesuffix("bias") + "weight"]
        set_parameter(layer.module, layer.family.native(key), weight.new_zeros(len(weight)))


def set_parameter(layer: nn.Module, path: str, value: Tensor) -> None:
    """Replace a parameter of a Linear or Conv1D by one of another shape, and the counts that the module keeps.

    The value gets the weight's device and dtype: what was read from a plan's file lies in the CPU's memory.
    """
    owner, _, name = path.rpartition(".")
    module = layer.get_submodule(owner)
    like = module.get_parameter("weight")
    value = value.to(device=like.device, dtype=like.dtype)
    setattr(module, name, nn.Parameter(value, requires_grad=value.is_floating_point()))
    if name == "weight" and isinstance(module, nn.Linear):
        module.out_features, module.in_features = value.shape
    elif name == "weight":
        vars(module).update(nx=value.shape[0], nf=value.shape[1])


def settle_widths(view: ModelView) -> None:
    """Bring every width field of the modules and the config into line with the weights.

    Layers that are all alike share the model's config; otherwise each has a copy of it with its own widths.
    """
    shapes = [view.layer(i).geometry for i in range(len(view.layers))]
    config = view.config
    uniform = len(set(shapes)) == 1
    if uniform:
        set_widths(config, view.family, shapes[0])
    for layer, shape in zip(view.layers, shapes, strict=True):
        own = config if uniform else set_widths(copy.copy(config), view.family, shape)
        for module in layer.modules():
            if hasattr(module, "config"):
                setattr(module, "config", own)  # noqa: B010  a plain attribute, not a submodule
            for name, value in module_widths(shape).items():
                if name in vars(module):
                    setattr(module, name, value)
