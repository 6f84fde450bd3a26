"""The cut of the channels of routed experts: each expert of a layer keeps as many, of its own choice."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from swm.errors import FamilyError, PlanError
from swm.model.expert_surgery import put_tensor
from swm.model.layer import Layer
from swm.model.ranges import format_ranges
from swm.model.view import ModelView


@torch.no_grad()
def keep_expert_channels(view: ModelView, position: int, kept: Sequence[Sequence[int]]) -> None:
    """Keep these channels of the experts of a layer.

    The config says how many there are as soon as all layers have as many, if a field of it says that and nothing else;
    otherwise `layout: custom` alone holds the model.

    Args:
        view: The model.
        position: Where the layer stands now.
        kept: The channels of each expert that stay, ascending; of each as many.

    Raises:
        PlanError: The layer has no experts, or not such channels.
    """
    layer = view.layer(position)
    channels = layer.expert_channels
    if channels is None:
        raise PlanError(f"layer {layer.number} has no experts")
    count, left = channels.count, len(kept[0]) if kept else 0
    _check(layer, kept, count)
    # Before the weights change: afterwards the class makes others of the config.
    field = view.expert_width
    one = torch.tensor([list(row) for row in kept])
    turns = torch.stack([2 * one, 2 * one + 1], dim=2).flatten(1)
    both = turns if channels.interleaved else torch.cat([one, one + count], dim=1)
    module = layer.module.get_submodule(channels.path)
    tensors = dict(module.named_parameters(recurse=False))
    for name, dim, index in [(*channels.reads, one), *((name, dim, both) for name, dim in channels.writes.items())]:
        value = tensors[name].detach()
        rows = [own.index_select(dim - 1, stays) for own, stays in zip(value, index.to(value.device), strict=True)]
        put_tensor(module, name, view.memory.keep(torch.stack(rows)))
    for name, value in vars(module).items():
        if field is not None and name in field.numbers and type(value) is int and value in (count, 2 * count):
            setattr(module, name, value // count * left)
    _settle(view)


def _check(layer: Layer, kept: Sequence[Sequence[int]], count: int) -> None:
    """Raise PlanError for channels that are not there, or not as many of each expert."""
    experts = layer.units("experts")
    if len(kept) != experts or len({len(row) for row in kept}) != 1:
        raise PlanError(
            f"layer {layer.number} has {experts} experts, of each of which as many channels must stay; the plan keeps "
            f"{', '.join(str(len(row)) for row in kept)}"
        )
    for row in kept:
        if list(row) != sorted(set(row)) or not row or not 0 <= row[0] <= row[-1] < count:
            raise PlanError(
                f"experts of layer {layer.number} have channels 0 to {count - 1}; the plan keeps {format_ranges(row)}"
            )


def channel_counts(view: ModelView) -> list[int]:
    """How many channels each expert of each layer has, by position; 0 for a layer without, or where it is not known."""
    counts = []
    for position in range(len(view.layers)):
        try:
            counts.append(view.layer(position).units("expert_channels"))
        except FamilyError:
            counts.append(0)
    return counts


def _settle(view: ModelView) -> None:
    """Write the width into the config where all layers have it and no other width follows from the field."""
    field, counts = view.expert_width, set(channel_counts(view)) - {0}
    if field is not None and field.alone and len(counts) == 1:
        setattr(view.config, field.name, counts.pop())
