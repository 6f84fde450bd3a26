"""What the pruners share that remove single layers or one run of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from swm.interfaces.depth import DepthContext, DepthProposal
from swm.model.windows import windows_without


def unprotected_layers(layers: int, protect_first: int, protect_last: int) -> range:
    """The layers that may go."""
    return range(protect_first, layers - protect_last)


def ranked(scores: Mapping[int, float]) -> list[int]:
    """The layers by their scores, the lowest first; of equal ones the higher layer goes first. NaN goes last."""
    # As keys, NaNs would have no order among each other.
    return sorted(scores, key=lambda i: (math.isnan(scores[i]), 0 if math.isnan(scores[i]) else scores[i], -i))


def for_what_goes(context: DepthContext, scores: Mapping[int, float], least: float) -> Mapping[int, float]:
    """The scores above `least`, divided by the sizes of the positions; the scores where those are of one size.

    Args:
        context: Knows the sizes.
        scores: What the removal of each position costs, higher for worse.
        least: What it costs to remove nothing.
    """
    sizes = context.sizes
    return scores if sizes is None else {i: (score - least) / sizes[i] for i, score in scores.items()}


def first_removable(context: DepthContext, order: Sequence[int], count: int) -> list[int]:
    """The first `count` layers of an order, where the model can do without them; those it cannot do without stay.

    A layer may become removable once another one is, so the order is gone through from its start after each choice.
    Fewer layers are returned where no more can go.

    Args:
        context: Says which layers can go together.
        order: The layers that may go, best first.
        count: How many of them go.
    """
    if len(order) >= count and context.removable(order[:count]):
        return list(order[:count])
    chosen: list[int] = []
    while len(chosen) < count:
        others = (layer for layer in order if layer not in chosen)
        layer = next((layer for layer in others if context.removable([*chosen, layer])), None)
        if layer is None:
            break
        chosen.append(layer)
    return chosen


def removal_proposal(layers: int, removed: Iterable[int], scores: Mapping[int, float] | None = None) -> DepthProposal:
    """The proposal that removes exactly these layers, in the order given."""
    order: Sequence[int] = list(removed)
    facts: dict[str, object] = {"order": order}
    if scores is not None:
        facts["scores"] = {str(layer): score for layer, score in scores.items()}
    return DepthProposal(windows_without(order, layers), facts)
