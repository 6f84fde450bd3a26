"""What removed units contributed, given to a bias or to the units that stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from swm.errors import FamilyError
from swm.model.families import ModelFamily
from swm.model.units import Block, Part, _reader, block, cuts, geometry, kept_channels
from swm.model.view import ModelView

WRITERS: Mapping[Block, tuple[str, ...]] = {
    "attention": ("attention.q", "attention.k", "attention.v", "attention.qkv"),
    "mlp": ("mlp.gate", "mlp.up", "mlp.gate_up"),
}


def check_bias(family: ModelFamily, config: Any, part: Part) -> None:
    """Raise FamilyError when the family's own class cannot hold a bias on the projection that reads the units."""
    if block(part) in family.own_bias or hasattr(config, family.bias_switch.get(block(part), "")):
        return
    raise FamilyError(
        f"model_type '{config.model_type}' has no bias for its {part} output, so what the removed units contributed "
        "cannot be kept there; switch the compensation off (flap has bias: false for it)"
    )


def added_biases(view: ModelView, kept: Mapping[tuple[int, Part], int], part: Part) -> int:
    """How many parameters come with the compensation of a part: biases that its projections have not, in every layer.

    `kept` are the units that stay by (position, part); layers that it does not name stay as they are.
    """
    added = 0
    for position in range(len(view.layers)):
        state, shape = view.state(position), geometry(view, position)
        reader = _reader(view, position, part)
        if reader.bias in state:
            continue
        units = range(kept.get((position, part), shape.units(part)))
        added += reader.view(state[reader.key]).shape[1]
        added += sum(_new_biases(view, position, part, units).values())
    return added


def _new_biases(view: ModelView, position: int, part: Part, units: Sequence[int]) -> dict[str, int]:
    """The lengths, with these units kept, of the biases that the switch gives to writing projections without one."""
    state, shape = view.state(position), geometry(view, position)
    places = cuts(view.family, state, shape, part)
    found = {}
    for writer in WRITERS[block(part)]:
        key = f"{writer}.weight"
        if key in state and f"{writer}.bias" not in state:
            own = [cut for cut in places if cut.key == key]
            gone = sum(cut.channels - len(kept_channels(shape, part, cut, units)) for cut in own)
            found[f"{writer}.bias"] = len(state[key]) - gone
    return found


@torch.no_grad()
def bias_compensation(
    view: ModelView, position: int, part: Part, units: Sequence[int], mean: Tensor
) -> dict[str, Tensor]:
    """The bias `b + W_removed mean_removed` of the reading projection, and zeros for biases that come with it.

    `mean` is the mean of the reader's input, `[channels]`. Source: FLAP, arXiv 2312.11983, section 3.4.
    """
    state, shape = view.state(position), geometry(view, position)
    cut = _reader(view, position, part)
    gone = torch.ones(cut.channels, dtype=torch.bool)
    gone[kept_channels(shape, part, cut, units)] = False
    weight = cut.view(state[cut.key]).double()
    extra = (mean.double().to(weight.device) * gone.to(weight.device)) @ weight
    old = state.get(cut.bias)
    dtype = state[cut.key].dtype
    result = {cut.bias: (extra if old is None else old.double() + extra).to(dtype)}
    if old is None:
        # The config switch that allows this bias gives one to every projection of the part.
        for key, size in _new_biases(view, position, part, units).items():
            result[key] = torch.zeros(size, dtype=dtype, device=weight.device)
    return result
