"""The channels of routed experts: all experts of a layer lose the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from swm.errors import FamilyError, PlanError
from swm.model.expert_surgery import put_tensor
from swm.model.experts import expert_weights
from swm.model.field_effect import FieldEffect, field_effects, integer_fields
from swm.model.ranges import format_ranges
from swm.model.view import ModelView


@dataclass(frozen=True)
class ExpertChannels:
    """The channels of the experts of one layer.

    `path` is that of the module that holds the experts. `reads` is the weight that takes the channels in, with their
    axis; `writes` are those that give them: gate and up in one, one half behind the other or in turns
    (`interleaved`).
    """

    path: str
    count: int
    reads: tuple[str, int]
    writes: Mapping[str, int]
    interleaved: bool


def channels_of(view: ModelView, position: int) -> ExpertChannels | None:
    """The channels of a layer's experts; None for a layer without.

    Raises FamilyError where the shapes of the weights do not tell them.
    """
    layer = view.layer(position)
    if layer.experts is None:
        return None
    path = layer.experts.path
    module = layer.module.get_submodule(path)
    weights = {name: value for name, value in module.named_parameters(recurse=False) if value.dim() == 3}
    by_size = sorted(weights, key=lambda name: weights[name].numel())
    hidden = view.config.hidden_size
    if len(by_size) == 2 and weights[by_size[1]].numel() == 2 * weights[by_size[0]].numel():
        down, fused = by_size
        axes = [dim for dim in (1, 2) if weights[down].shape[3 - dim] == hidden]
        if len(axes) == 2:
            # As many channels as the hidden size; gate and up have twice as many.
            axes = [dim for dim in (1, 2) if weights[fused].shape[dim] == hidden]
        if len(axes) == 1:
            biases = {name: 1 for name, value in module.named_parameters(recurse=False) if value.dim() == 2}
            writes = {fused: 3 - axes[0], **{name: dim for name, dim in biases.items() if name.startswith(fused)}}
            count = weights[down].shape[axes[0]]
            interleaved = getattr(module, "is_concatenated", True) is False
            return ExpertChannels(path, count, (down, axes[0]), writes, interleaved)
    raise FamilyError(f"the weights of the experts of layer {layer.number} do not tell which of their axes is which")


@torch.no_grad()
def keep_expert_channels(view: ModelView, position: int, kept: Sequence[int]) -> None:
    """Keep these channels of all experts of a layer.

    The config says how many there are as soon as all layers have as many, if a field of it says that and nothing else;
    otherwise `layout: custom` alone holds the model.

    Args:
        view: The model.
        position: Where the layer stands now.
        kept: The channels that stay, ascending.

    Raises:
        PlanError: The layer has no experts, or not such channels.
    """
    layer, channels = view.layer(position), channels_of(view, position)
    if channels is None:
        raise PlanError(f"layer {layer.number} has no experts")
    count = channels.count
    if list(kept) != sorted(set(kept)) or not kept or not 0 <= kept[0] <= kept[-1] < count:
        raise PlanError(
            f"experts of layer {layer.number} have channels 0 to {count - 1}; the plan keeps {format_ranges(kept)}"
        )
    field = width_field(view, count)
    one = torch.tensor(list(kept))
    turns, halves = torch.stack([2 * one, 2 * one + 1], dim=1).flatten(), torch.cat([one, one + count])
    both = turns if channels.interleaved else halves
    module = layer.module.get_submodule(channels.path)
    tensors = dict(module.named_parameters(recurse=False))
    for name, dim, index in [(*channels.reads, one), *((name, dim, both) for name, dim in channels.writes.items())]:
        value = tensors[name].detach()
        put_tensor(module, name, value.index_select(dim, index.to(value.device)).contiguous())
    for name, value in vars(module).items():
        if type(value) is int and value in (count, 2 * count) and name in _counted(view, channels.path, field):
            setattr(module, name, value // count * len(kept))
    _settle(view, field)


@dataclass(frozen=True)
class WidthField:
    """A field of the config that gives the width of the experts; `alone` where it gives nothing else."""

    name: str
    alone: bool
    effect: FieldEffect


def width_field(view: ModelView, count: int) -> WidthField | None:
    """The field of the config that gives the experts of all layers their width; None where there is none.

    `count` is the width of some of them; layers that were cut differ from the class by now.
    """
    prefix = f"{view.family.layers}."
    paths = [
        f"{prefix}{i}.{path}.{name}"
        for i, layer in enumerate(view.layers)
        for path, names in expert_weights(layer).items()
        for name in names
    ]
    inside = {path.rpartition(".")[0] for path in paths}
    fields = integer_fields(view.config, count) or [name for name in view.config.to_dict() if name.endswith("_size")]
    for name, effect in field_effects(view.model, fields, max(count // 2, 1)):
        if all(path in effect.axes for path in paths):
            alone = all(path.rpartition(".")[0] in inside for path in effect.axes)
            return WidthField(name, alone, effect)
    return None


def _counted(view: ModelView, path: str, field: WidthField | None) -> set[str]:
    """The numbers that the module of a layer's experts keeps of their width."""
    ends = () if field is None else field.effect.attributes
    return {name for owner, name in ends if owner.endswith(f".{path}")}


def _settle(view: ModelView, field: WidthField | None) -> None:
    """Write the width into the config where all layers have it and no other width follows from the field."""
    held = [channels_of(view, position) for position in range(len(view.layers))]
    counts = {one.count for one in held if one is not None}
    if field is not None and field.alone and len(counts) == 1:
        setattr(view.config, field.name, counts.pop())
