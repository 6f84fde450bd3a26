"""Which sets an allocation measures as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from transformers import PreTrainedModel

from swm.builtin.stages.allocation_search import Removal
from swm.builtin.stages.allocation_trials import Choices, choose_removal
from swm.builtin.stages.channel_cuts import channel_cuts, even_cuts
from swm.costs.goal import Goal
from swm.costs.sizes import ParameterCost, Parameters
from swm.depth.program import ChannelCut, SubBlock
from swm.depth.sub_blocks import sub_blocks
from swm.model.view import ModelView
from swm.model.windows import Window
from swm.testing import tiny_ids


@pytest.fixture
def view(tiny: Callable[[str], PreTrainedModel], view_of: Callable[[PreTrainedModel], ModelView]) -> ModelView:
    return view_of(tiny("llama"))


class Losses:
    """Stands for the engine: sums of what parts cost alone, more for sub-blocks together and for steep cuts."""

    def __init__(self, blocks: float = 0.0, cuts: float = 0.0) -> None:
        self.asked: list[tuple[int, int, int]] = []
        self._blocks, self._cuts = blocks, cuts

    def loss(self, windows: Sequence[Window], cuts: Sequence[ChannelCut] = (), gone: Sequence[SubBlock] = ()) -> float:
        self.asked.append((len(windows), len(cuts), len(gone)))
        alone = len(windows) + sum(share * (1 + position / 100) for position, share in cuts) + 0.01 * len(gone)
        return 3.0 + alone + self._blocks * max(0, len(gone) - 1) + self._cuts * max(0.0, _steepest(cuts) - 0.5)


def _steepest(cuts: Sequence[ChannelCut]) -> float:
    return max((share for _, share in cuts), default=0.0)


def chosen(engine: Losses, view: ModelView, candidates: int, **others: Any) -> Any:
    cost = ParameterCost(view)
    cuts = channel_cuts(view, (0.25, 0.75), 4, cost)
    goal = Goal(Parameters(), cost, 0.25 * sum(cost.layers))
    return choose_removal(engine, Choices([], cuts, **others), goal, candidates)  # type: ignore[arg-type]


def test_sub_blocks_go_where_they_are_cheap_together_too(view: ModelView) -> None:
    blocks = sub_blocks(view, tiny_ids())
    assert chosen(Losses(), view, 4, blocks=blocks).removal.gone


def test_sub_blocks_that_cost_more_together_than_alone_stay(view: ModelView) -> None:
    blocks = sub_blocks(view, tiny_ids())
    engine = Losses(blocks=5.0)
    choice = chosen(engine, view, 4, blocks=blocks)
    # The cheapest sums are all of sub-blocks.
    assert len(choice.removal.gone) <= 1 < max(gone for _, _, gone in engine.asked)
    assert choice.cost == pytest.approx(engine.loss([], choice.removal.cuts, choice.removal.gone) - 3.0)


def test_the_same_share_of_every_layer_is_among_what_is_measured(view: ModelView) -> None:
    def even(windows: Sequence[Window], costs: Any) -> Removal:
        return Removal((), tuple((position, 0.375) for position in range(6)), 1.0, float("nan"))

    assert chosen(Losses(cuts=50.0), view, 4, even=even).even
    plain = chosen(Losses(), view, 4, even=even)
    assert not plain.even
    assert {share for _, share in plain.removal.cuts} <= {0.25, 0.75}


def test_even_cuts_remove_just_enough_and_spare_the_costliest(view: ModelView) -> None:
    cost = ParameterCost(view)
    costs = {0: 1.0, 1: 5.0, 2: 2.0, 4: 4.0}
    for share in (0.1, 0.37, 0.5, 0.9):
        about = share * sum(cost.units(view.layer(i), "mlp", 64) for i in costs)
        cuts = even_cuts(view, costs, about, 4, cost)
        step = cost.units(view.layer(0), "mlp", 4)
        assert about <= sum(size.saved for size in cuts.values()) < about + step
        kept = {position: size.kept for (position, _), size in cuts.items()}
        assert all(size.kept % 4 == 0 for size in cuts.values())
        full = {position: kept.get(position, 64) for position in costs}
        assert max(full.values()) - min(full.values()) in (0, 4)
        # By cost, the costliest first, the widths only fall.
        order = sorted(costs, key=lambda i: -costs[i])
        assert [full[i] for i in order] == sorted(full.values(), reverse=True)
    assert even_cuts(view, costs, 2 * sum(cost.layers), 4, cost) == {}
    assert even_cuts(view, costs, 0.0, 4, cost) == {}
