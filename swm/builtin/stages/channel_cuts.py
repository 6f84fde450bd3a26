"""The channel cuts that an allocation may choose from: of every layer's MLP, some shares of its channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def even_cuts(
    view: ModelView, costs: Mapping[int, float], about: float, rounding: int | None, cost: ModelCost
) -> dict[ChannelCut, CutSize]:
    """The cuts that take nearly the same share of the channels of some layers and remove just so much, or a step more.

    Args:
        view: The model.
        costs: The positions of the layers, each with what it costs to cut there; the costliest keep a step more.
        about: How much goes in all.
        rounding: As of `channel_cuts`.
        cost: What counts as removed.

    Returns:
        The cuts; none where all the channels of these layers are not enough.
    """
    ladders = {position: _ladder(view, position, rounding, cost) for position in costs}
    shares = sorted({share for ladder in ladders.values() for share in ladder})
    chosen: dict[int, float] = dict.fromkeys(ladders, 0.0)
    for share in shares:
        before, chosen = (
            chosen,
            {i: max((s for s in ladder if s <= share), default=0.0) for i, ladder in ladders.items()},
        )
        total = sum(ladders[i][taken].saved for i, taken in chosen.items() if taken)
        if total >= about:
            break
    else:
        return {}
    for position in sorted(costs, key=lambda i: -costs[i]):
        ladder, less = ladders[position], before[position]
        if chosen[position] == less:
            continue
        spared = ladder[chosen[position]].saved - (ladder[less].saved if less else 0)
        if total - spared >= about:
            chosen[position], total = less, total - spared
    return {(i, share): ladders[i][share] for i, share in sorted(chosen.items()) if share}


def _ladder(view: ModelView, position: int, rounding: int | None, cost: ModelCost) -> dict[float, CutSize]:
    """Every cut of a layer by the share that it takes. See `channel_cuts` for the Args."""
    layer = view.layer(position)
    channels = layer.units("mlp")
    step = rounding or default_rounding(channels or 1)
    sizes: dict[float, CutSize] = {}
    for kept in range(channels - channels % step, 0, -step):
        saved = cost.units(layer, "mlp", channels - kept)
        if kept < channels and saved > 0:
            sizes[1 - kept / channels] = CutSize(kept, saved)
    return sizes
