"""The only code that changes a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from swm.errors import PlanError
from swm.model.blocks import Removal
from swm.model.config_depth import cut_config_to
from swm.model.layer import Layer
from swm.model.removed_blocks import remove_blocks
from swm.model.replacement import Replaced, Replacement
from swm.model.units import features
from swm.model.view import ModelView

# Attributes by which a module knows the position of its layer.
LAYER_NUMBERS = ("layer_idx", "layer_id", "layer_index")


def positions(view: ModelView, numbers: Sequence[int]) -> list[int]:
    """Where the layers with these original numbers stand now; numbers already merged away are passed over."""
    return [i for i, number in enumerate(view.numbers) if number in set(numbers)]


def same_memory(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape and dtype are the same numbers in the same place."""
    return one.data_ptr() == other.data_ptr() and one.stride() == other.stride()


@torch.no_grad()
def merge_layers(view: ModelView, members: Sequence[int], survivor: int, state: Mapping[str, Tensor]) -> None:
    """Put one state in place of several adjacent layers.

    Args:
        view: The model.
        members: Where the layers stand now, ascending.
        survivor: The member whose module stays.
        state: What is written into it, by canonical name.
    """
    own = view.state(survivor)
    if state.keys() != own.keys() or not all(same_memory(value, own[key]) for key, value in state.items()):
        # What stays as it is may hold any modules.
        for member in members:
            check_not_replaced(view.layer(member))
    for key, value in state.items():
        # A result may consist of tensors of these very layers; they stay as they are, as others take their place.
        if not same_memory(value, own[key]):
            put_values(view, survivor, key, value)
    view.ends[survivor] = view.ends[max(members)]
    gone = set(members) - {survivor}
    keep_layers(view, [i for i in range(len(view.layers)) if i not in gone])


def keep_layers(view: ModelView, kept: Sequence[int]) -> None:
    """Keep the layers at these positions, in order, and bring every index and config field into line."""
    layers = view.layers
    _keep_by_layer(view, kept)
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
            for name in LAYER_NUMBERS:
                if isinstance(vars(module).get(name), int):
                    setattr(module, name, position)


def _keep_by_layer(view: ModelView, kept: Sequence[int]) -> None:
    """Cut the parameters beside the layers that hold a part for each."""
    for path, axis in view.family.by_layer_of(view.model).items():
        value = view.body.get_parameter(path).detach()
        parts = value.chunk(len(view.layers), dim=axis)
        set_parameter(view.body, path, view.memory.keep(torch.cat([parts[i] for i in kept], dim=axis)))


def replace_projection(view: ModelView, position: int, role: str, module: Any, told: Replaced) -> None:
    """Put a module in place of a projection.

    Args:
        view: The model.
        position: Where the layer stands now.
        role: The canonical name of the projection (`attention.q`, `mlp.down`, ...).
        module: The module, a `Replacement`.
        told: How the code in a saved folder makes the module again.

    Raises:
        PlanError: The module does not fit.
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
    for parameter in layer.module.get_submodule(path).parameters():
        parameter.data = view.memory.keep(parameter.data)
    view.replaced[position][path] = told


def check_not_replaced(layer: Layer) -> None:
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
    check_not_replaced(layer)
    own = layer.state
    foreign = [key for key in fitted if key.rpartition(".")[0] != role]
    if foreign:
        raise PlanError(f"step refits {role} of layer {layer.number}; the tensors hold {foreign[0]}")
    for key, value in fitted.items():
        if key not in own or own[key].shape != value.shape:
            shape = tuple(own[key].shape) if key in own else "none"
            raise PlanError(f"layer {layer.number}: {key} fitted as {tuple(value.shape)}; the model has {shape}")
        put_values(view, position, key, value)


def put_values(view: ModelView, position: int, key: str, value: Tensor) -> None:
    """Put a tensor of the same shape in place of what a parameter of a layer holds.

    Writing over values that are mapped from a file would copy them into memory first.

    Args:
        view: The model.
        position: Where the layer stands now.
        key: The canonical name of the parameter.
        value: Its new values; they are rounded to its dtype.
    """
    parameter = view.layers[position].get_parameter(view.family.native(key))
    fresh = torch.empty_like(parameter, memory_format=torch.contiguous_format).copy_(value)
    parameter.data = view.memory.keep(fresh)


def set_parameter(layer: nn.Module, path: str, value: Tensor) -> None:
    """Replace a parameter by one of another shape, and the counts that its module keeps of it.

    The value gets the old one's device and dtype: what was read from a plan's file lies in the CPU's memory.
    """
    owner, _, name = path.rpartition(".")
    module = layer.get_submodule(owner)
    like = module.get_parameter(name if vars(module)["_parameters"].get(name) is not None else "weight")
    value = value.to(device=like.device, dtype=like.dtype)
    setattr(module, name, nn.Parameter(value, requires_grad=like.requires_grad and value.is_floating_point()))
    if name != "weight":
        return
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = value.shape
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = value.shape
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(value.shape)
    elif hasattr(module, "nx"):
        vars(module).update(nx=value.shape[0], nf=value.shape[1])


def remove_modules(view: ModelView, position: int, removal: Removal) -> None:
    """Take a sub-block out of a layer, and the norms that nothing reads any more.

    Args:
        view: The model.
        position: Where the layer stands now.
        removal: What stands in place of which module.

    Raises:
        PlanError: The layer has no such module, or it holds no parameters any more.
    """
    layer = view.layer(position)
    check_not_replaced(layer)
    modules = dict(layer.module.named_modules())
    for path in removal:
        if path not in modules or not any(True for _ in modules[path].parameters()):
            state = "is gone already" if path in modules else "is none of its modules"
            raise PlanError(f"layer {layer.number}: {path} {state}, so it cannot be removed")
    remove_blocks(layer.module, {path: module.settings() for path, module in removal.items()})
