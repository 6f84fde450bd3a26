"""What removed units contributed, given to a bias or to the units that stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from swm.errors import FamilyError
from swm.model.families import ModelFamily
from swm.model.layer import Layer
from swm.model.text_config import text_config
from swm.model.units import Block, Part, block
from swm.model.view import ModelView

WRITERS: Mapping[Block, tuple[str, ...]] = {
    "attention": ("attention.q", "attention.k", "attention.v", "attention.qkv"),
    "mlp": ("mlp.gate", "mlp.up", "mlp.gate_up"),
}


def check_bias(family: ModelFamily, config: Any, part: Part) -> None:
    """Raise FamilyError when the family's own class cannot hold a bias on the projection that reads the units."""
    if block(part) in family.own_bias or hasattr(text_config(config), family.bias_switch.get(block(part), "")):
        return
    raise FamilyError(
        f"model_type '{config.model_type}' has no bias for its {part} output, so what the removed units contributed "
        "cannot be kept there; switch the compensation off (flap has bias: false for it)"
    )


def added_bias_parameters(view: ModelView, kept: Mapping[tuple[int, Part], int], part: Part) -> int:
    """How many parameters come with the compensation of a part: biases that its projections have not, in every layer.

    `kept` are the units that stay by (position, part); layers that it does not name stay as they are.
    """
    added = 0
    for layer in map(view.layer, range(len(view.layers))):
        if not layer.units(part):
            continue
        reader = layer.reader(part)
        if reader.bias in layer.state:
            continue
        units = range(kept.get((layer.position, part), layer.units(part)))
        added += reader.view(layer.state[reader.key]).shape[1]
        added += sum(_new_biases(layer, part, units).values())
    return added


def _new_biases(layer: Layer, part: Part, units: Sequence[int]) -> dict[str, int]:
    """The lengths, with these units kept, of the biases that the switch gives to writing projections without one."""
    slices, lengths = layer.slices(part), {}
    for writer in WRITERS[block(part)]:
        key = f"{writer}.weight"
        if key in layer.state and f"{writer}.bias" not in layer.state:
            gone = sum(piece.channels - len(piece.kept(units)) for piece in slices if piece.key == key)
            lengths[f"{writer}.bias"] = len(layer.state[key]) - gone
    return lengths


@torch.no_grad()
def bias_compensation(layer: Layer, part: Part, units: Sequence[int], mean: Tensor) -> dict[str, Tensor]:
    """The bias `b + W_removed mean_removed` of the reading projection, and zeros for biases that come with it.

    Source: FLAP, arXiv 2312.11983, section 3.4.

    Args:
        layer: The layer before the cut.
        part: The part of it that is cut.
        units: The units that stay.
        mean: The mean of what enters the reading projection, `[channels]`.

    Returns:
        Biases by canonical name, in the type of the weights.
    """
    reader, state = layer.reader(part), layer.state
    weight = reader.view(state[reader.key]).double()
    extra = (mean.double().to(weight.device) * reader.removed(units).to(weight.device)) @ weight
    old = state.get(reader.bias)
    dtype = state[reader.key].dtype
    result = {reader.bias: (extra if old is None else old.double() + extra).to(dtype)}
    if old is None:
        # The config switch that allows this bias gives one to every projection of the part.
        for key, size in _new_biases(layer, part, units).items():
            result[key] = torch.zeros(size, dtype=dtype, device=weight.device)
    return result
