"""Moving what removed units contribute on average into a bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from swm.errors import FamilyError
from swm.families import ModelFamily
from swm.interfaces.width import Part
from swm.units import cuts, geometry, kept_channels
from swm.view import ModelView

WRITERS = {
    "attention": ("attention.q", "attention.k", "attention.v", "attention.qkv"),
    "mlp": ("mlp.gate", "mlp.up", "mlp.gate_up"),
}


def check_bias(family: ModelFamily, config: Any, part: Part) -> None:
    """Raise FamilyError when the family's own class cannot hold a bias on the projection that reads the units."""
    if part in family.own_bias or hasattr(config, family.bias_switch.get(part, "")):
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
        found = cuts(view.family, state, shape, part)
        if found[-1].bias in state:
            continue
        for cut in found:
            if cut.key.endswith(".weight") and cut.bias not in state:
                each = cut.channels // shape.units(part)
                own = kept.get((position, part), shape.units(part))
                added += cut.view(state[cut.key]).shape[1] if cut.reads else each * own
    return added


@torch.no_grad()
def bias_compensation(
    view: ModelView, position: int, part: Part, units: Sequence[int], mean: Tensor
) -> dict[str, Tensor]:
    """The bias `b + W_removed mean_removed` of the reading projection, and zeros for biases that come with it.

    `mean` is the mean of the reader's input, `[channels]`. Source: FLAP, arXiv 2312.11983, section 3.4.
    """
    state, shape = view.state(position), geometry(view, position)
    cut = next(c for c in cuts(view.family, state, shape, part) if c.reads)
    gone = torch.ones(cut.channels, dtype=torch.bool)
    gone[kept_channels(shape, part, cut, units)] = False
    weight = cut.view(state[cut.key]).double()
    extra = (mean.double().to(weight.device) * gone.to(weight.device)) @ weight
    old = state.get(cut.bias)
    dtype = state[cut.key].dtype
    result = {cut.bias: (extra if old is None else old.double() + extra).to(dtype)}
    if old is None:
        # The config switch that allows this bias gives one to every projection of the part.
        for writer in WRITERS[part]:
            key = f"{writer}.weight"
            if key in state and f"{writer}.bias" not in state:
                kept = sum(
                    len(kept_channels(shape, part, c, units))
                    for c in cuts(view.family, state, shape, part)
                    if c.key == key
                )
                result[f"{writer}.bias"] = torch.zeros(kept, dtype=dtype, device=weight.device)
    return result
