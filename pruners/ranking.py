"""What the pruners share that remove single layers or one run of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from swm.interfaces.depth import DepthProposal
from swm.model.windows import windows_without


def unprotected_layers(layers: int, protect_first: int, protect_last: int) -> range:
    """The layers that may go."""
    return range(protect_first, layers - protect_last)


def lowest_scored(scores: Mapping[int, float], count: int) -> list[int]:
    """The `count` layers with the lowest scores; of equal ones the higher layer goes first. NaN never goes first."""
    # As keys, NaNs would have no order among each other.
    return sorted(scores, key=lambda i: (math.isnan(scores[i]), 0 if math.isnan(scores[i]) else scores[i], -i))[:count]


def removal_proposal(layers: int, removed: Iterable[int], scores: Mapping[int, float] | None = None) -> DepthProposal:
    """The proposal that removes exactly these layers, in the order given."""
    order: Sequence[int] = list(removed)
    facts: dict[str, object] = {"order": order}
    if scores is not None:
        facts["scores"] = {str(layer): score for layer, score in scores.items()}
    return DepthProposal(windows_without(order, layers), facts)
