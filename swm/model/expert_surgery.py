"""The cut of a layer's experts, and what must change with it: their router, numbers of modules, the config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from swm.errors import FamilyError, PlanError
from swm.model.expert_alignment import in_order, matched_order
from swm.model.experts import CHOSEN_GROUPS, GROUPS, TOP_K, ExpertBlock, expert_tensors, expert_weights, field_name
from swm.model.layer import Layer
from swm.model.ranges import format_ranges
from swm.model.shared_copy import own_numbers
from swm.model.view import ModelView


@torch.no_grad()
def keep_experts(view: ModelView, position: int, kept: Sequence[int]) -> None:
    """Keep these experts of a layer.

    The config says how many there are as soon as all layers with experts have as many.

    Args:
        view: The model.
        position: Where the layer stands now.
        kept: The experts that stay, ascending.

    Raises:
        PlanError: The layer has no experts, or not enough would stay for its router.
    """
    layer = view.layer(position)
    block = layer.experts
    if block is None:
        raise PlanError(f"layer {layer.number} has no experts")
    check_kept(layer, block, kept)
    for path, value in expert_tensors(layer.module, block).items():
        index = torch.tensor(list(kept), device=value.device)
        put_tensor(layer.module, path, view.memory.keep(value.index_select(block.axes[path], index).contiguous()))
    for path, name in block.numbers:
        setattr(layer.module.get_submodule(path), name, len(kept))
    update_counts(view)


@torch.no_grad()
def average_experts(
    view: ModelView, position: int, expert: int, shares: Mapping[int, float], aligned: bool = False
) -> None:
    """Put the weighted mean of some experts in the place of one of them; its row of the router stays.

    Args:
        view: The model.
        position: Where the layer stands now.
        expert: The expert that is written.
        shares: The share of each expert in it.
        aligned: Whether the channels of the others are first brought into the order of those of this expert.

    Raises:
        PlanError: The layer has no such experts.
        FamilyError: Their channels are to be aligned, and the weights do not tell them.
    """
    layer = view.layer(position)
    block = layer.experts
    if block is None or not all(0 <= one < block.count for one in (expert, *shares)):
        has = "no experts" if block is None else f"experts 0 to {block.count - 1}"
        raise PlanError(f"layer {layer.number} has {has}; found {format_ranges(sorted({expert, *shares}))}")
    for path in block.weights:
        own_numbers(layer.module.get_parameter(path), view.memory)
    tensors = expert_tensors(layer.module, block)
    channels = layer.expert_channels if aligned else None
    named = {path.rpartition(".")[2]: tensors[path] for path in block.weights}
    orders = {
        one: matched_order(named, channels, expert, one) for one in shares if channels is not None and one != expert
    }
    for path, dim in block.weights.items():
        value, name = tensors[path], path.rpartition(".")[2]
        parts = []
        for one, share in shares.items():
            part = value.select(dim, one)
            if channels is not None and one in orders:
                part = in_order(part, name, channels, orders[one])
            parts.append(share * part.double())
        value.select(dim, expert).copy_(torch.stack(parts).sum(dim=0))


def check_kept(layer: Layer, block: ExpertBlock, kept: Sequence[int]) -> None:
    """Raise PlanError for experts that are not there, or too few of them for the router, in all or in a group."""
    if list(kept) != sorted(set(kept)) or not kept or not 0 <= kept[0] <= kept[-1] < block.count:
        raise PlanError(f"layer {layer.number} has experts 0 to {block.count - 1}; found {format_ranges(kept)}")
    check_count(layer, block, len(kept))
    size = block.count // block.groups
    left = [sum(expert // size == group for expert in kept) for group in range(block.groups)]
    if len(set(left)) > 1:
        raise PlanError(
            f"layer {layer.number} chooses among {block.groups} groups of experts, each of which must keep as many as "
            f"the others; found {left}"
        )


def check_count(layer: Layer, block: ExpertBlock, count: int) -> None:
    """Raise PlanError, which names the fields of the config, where so few experts are left that a router fails."""
    config = layer.config
    top_k = f"{field_name(config, TOP_K, block.top_k)}: {block.top_k}"
    if count < block.top_k:
        raise PlanError(f"{count} experts in layer {layer.number} are fewer than a token takes ({top_k})")
    if count % block.groups or count < block.fewest():
        groups = f"{field_name(config, GROUPS, block.groups)}: {block.groups}"
        chosen = f"{field_name(config, CHOSEN_GROUPS, block.chosen_groups)}: {block.chosen_groups}"
        raise PlanError(
            f"{count} experts in layer {layer.number} cannot be chosen from by groups ({groups}, {chosen}, {top_k}); "
            f"a multiple of {block.groups} that is at least {block.fewest()} can"
        )


def put_tensor(layer: nn.Module, path: str, value: Tensor) -> None:
    """Put a tensor of another shape in the place of a parameter or buffer."""
    owner, _, name = path.rpartition(".")
    module = layer.get_submodule(owner)
    old = getattr(module, name)
    if isinstance(old, nn.Parameter):
        setattr(module, name, nn.Parameter(value, requires_grad=old.requires_grad))
    else:
        setattr(module, name, value)


def expert_counts(view: ModelView) -> dict[int, int]:
    """How many experts each layer has, by position; layers without are left out."""
    blocks = {position: view.layer(position).experts for position in range(len(view.layers))}
    return {position: block.count for position, block in blocks.items() if block is not None}


def uneven_experts(view: ModelView) -> bool:
    """Whether cuts left layers with different numbers of experts, which the config of the class cannot say."""
    held = {
        layer.get_submodule(path).get_parameter(names[0]).shape[0]
        for layer in view.layers
        for path, names in expert_weights(layer).items()
    }
    if len(held) < 2:
        return False
    try:
        return len(set(expert_counts(view).values())) > 1
    except FamilyError:
        # The class itself makes them so.
        return False


def expert_widths(view: ModelView, position: int) -> dict[str, int]:
    """The field of a config that counts the experts of a layer, and their number; empty for a layer without."""
    block = view.layer(position).experts
    return {} if view.experts is None or block is None else {view.experts.field: block.count}


def update_counts(view: ModelView) -> None:
    """Bring the config and what else counts experts into line with the layers: the largest count where they differ."""
    layout = view.experts
    counts = expert_counts(view)
    if layout is None or not counts:
        return
    most = max(counts.values())
    setattr(view.config, layout.field, most)
    for path, name in layout.outside:
        setattr(view.model.get_submodule(path), name, most)
    for position, count in counts.items():
        for module in view.layers[position].modules():
            own = vars(module).get("config")
            if own is not None and own is not view.config and hasattr(own, layout.field):
                setattr(own, layout.field, count)
