"""The channel cuts that an allocation may choose from: of every layer's MLP, some shares of its channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swm.costs.cost import ModelCost
from swm.costs.sizes import ParameterCost
from swm.depth.program import ChannelCut
from swm.model.view import ModelView
from swm.width.limits import default_rounding, round_units


@dataclass(frozen=True)
class CutSize:
    """How many channels a cut keeps, and what it removes: parameters, or what else the target counts."""

    kept: int
    saved: float


def channel_cuts(
    view: ModelView, shares: Sequence[float], rounding: int | None, cost: ModelCost | None = None
) -> dict[ChannelCut, CutSize]:
    """The cuts of every layer by each of the shares; those that would remove nothing are left out.

    Args:
        view: The model.
        shares: The shares of a layer's channels.
        rounding: What stays is a multiple of it, of `default_rounding` where it is None.
        cost: What counts as removed; parameters where it is None.
    """
    cost = cost or ParameterCost(view)
    cuts: dict[ChannelCut, CutSize] = {}
    for position in range(len(view.layers)):
        layer = view.layer(position)
        if not layer.units("mlp"):
            continue
        channels = layer.units("mlp")
        for share in shares:
            kept = round_units(int(channels * (1 - share)), channels, rounding or default_rounding(channels))
            saved = cost.units(layer, "mlp", channels - kept)
            if kept < channels and saved > 0:
                cuts[position, share] = CutSize(kept, saved)
    return cuts
