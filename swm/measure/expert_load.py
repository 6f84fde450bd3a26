"""How much each expert of a model has to do."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from swm.errors import FamilyError
from swm.model.view import ModelView
from swm.width.routing import Watcher, routers_watched

Watchers = Mapping[int, Watcher]


@dataclass(frozen=True)
class ExpertLoad:
    """What the router of a layer did with the text: `share` of the tokens that each expert was given, and how much it
    added to one of them (`output`, the mean norm of its weighted output). A token takes `top_k` experts.
    """

    layer: int
    top_k: int
    share: tuple[float, ...]
    output: tuple[float, ...]


def watched_experts(view: ModelView) -> AbstractContextManager[Watchers]:
    """Watches the routers of all layers while the model runs; nothing where it is not known how to cut experts."""
    try:
        return routers_watched(view, range(len(view.layers))) if view.experts is not None else nullcontext({})
    except FamilyError:
        return nullcontext({})


def expert_loads(view: ModelView, watchers: Watchers, tokens: int) -> tuple[ExpertLoad, ...]:
    """What was watched over so many tokens, layer by layer; experts that are called in an unknown way are left out.

    Args:
        view: The model.
        watchers: What watched its routers.
        tokens: How many tokens the model read.
    """
    loads = []
    for position, watcher in watchers.items():
        block = view.layer(position).experts
        if block is None or watcher.unknown:
            continue
        statistics = watcher.statistics(tokens)
        share, output = tuple(statistics.share.tolist()), tuple(statistics.mean_output.tolist())
        loads.append(ExpertLoad(watcher.number, block.top_k, share, output))
    return tuple(loads)
