"""The channel cuts that an allocation may choose from: of every layer's MLP, some shares of its channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swm.depth.program import ChannelCut
from swm.model.view import ModelView
from swm.width.limits import default_rounding, round_units


@dataclass(frozen=True)
class CutSize:
    """How many channels a cut keeps, and how many parameters it removes."""

    kept: int
    parameters: int


def channel_cuts(view: ModelView, shares: Sequence[float], rounding: int | None) -> dict[ChannelCut, CutSize]:
    """The cuts of every layer by each of the shares; those that would remove nothing are left out.

    What stays is a multiple of `rounding`, of `default_rounding` where it is None.
    """
    cuts: dict[ChannelCut, CutSize] = {}
    for position in range(len(view.layers)):
        layer = view.layer(position)
        if not layer.units("mlp"):
            continue
        channels, each = layer.units("mlp"), layer.unit_parameters("mlp")
        for share in shares:
            kept = round_units(int(channels * (1 - share)), channels, rounding or default_rounding(channels))
            if kept < channels:
                cuts[position, share] = CutSize(kept, (channels - kept) * each)
    return cuts
