"""Which sets an allocation measures as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from transformers import PreTrainedModel

from swm.builtin.stages.allocation_search import Removal
from swm.builtin.stages.allocation_trials import Choices, promising_removals
from swm.builtin.stages.channel_cuts import channel_cuts, even_cuts
from swm.builtin.stages.even_removals import even_removals
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
    """Stands for the engine: what parts cost alone. Sub-blocks are the cheapest."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int]] = []

    def loss(self, windows: Sequence[Window], cuts: Sequence[ChannelCut] = (), gone: Sequence[SubBlock] = ()) -> float:
        self.asked.append((len(windows), len(cuts), len(gone)))
        assert len(windows) + len(cuts) + len(gone) <= 1
        return 3.0 + len(windows) + sum(share * (1 + position / 100) for position, share in cuts) + 0.1 * len(gone)


def sets_of(view: ModelView, count: int, windows: Sequence[Window] = (), **others: Any) -> list[Removal]:
    cost = ParameterCost(view)
    cuts = channel_cuts(view, (0.25, 0.75), 4, cost)
    goal = Goal(Parameters(), cost, 0.5 * sum(cost.layers))
    return promising_removals(Losses(), Choices(windows, cuts, **others), goal, count)  # type: ignore[arg-type]


def test_sets_with_fewer_sub_blocks_stand_beside_the_cheapest_sum(view: ModelView) -> None:
    first, *others = sets_of(view, 4, blocks=sub_blocks(view, tiny_ids()))
    # Of the sums, those with the most of them are the least.
    assert len(first.gone) == max(len(one.gone) for one in others)
    assert any(not one.gone for one in others)
    assert all(one.cost >= first.cost for one in others)


def test_even_cuts_stand_beside_the_cheapest_sums_and_complete_their_windows(view: ModelView) -> None:
    asked: list[Removal] = []

    def even(others: Removal, costs: Mapping[int, float]) -> Removal:
        asked.append(others)
        assert costs == pytest.approx({position: 0.75 * (1 + position / 100) for position in range(6)})
        return replace(others, cuts=((0, 0.375),), cost=float("nan"))

    sets = sets_of(view, 8, windows=[Window(2, 3), Window(3, 5)], blocks=sub_blocks(view, tiny_ids()), even=even)
    assert asked[0] == Removal((), (), 0, 0.0)
    assert all(not one.cuts for one in asked)
    assert len({(one.windows, one.gone) for one in asked}) == len(asked)
    assert any(one.windows for one in asked)
    assert any(one.gone for one in asked)
    # In turns.
    assert [math.isnan(one.cost) for one in sets[:4]] == [False, True, False, True]
    assert sets[1].cuts == ((0, 0.375),)


def test_even_cuts_add_what_the_rest_of_a_removal_lacks(view: ModelView) -> None:
    cost = ParameterCost(view)
    goal = Goal(Parameters(), cost, 0.3 * sum(cost.layers))
    attention, mlp = (
        next(one for one in sub_blocks(view, tiny_ids()) if one.part == part) for part in ("attention", "mlp")
    )
    costs = {position: 1.0 + position for position in range(6)}

    class Offers:
        def offer(self, cuts: Any) -> None:
            pass

    make = even_removals(view, goal, Offers(), 4, 0.75)  # type: ignore[arg-type]
    for others, whole in (
        (Removal((), (), 0, 0.0), set()),
        (Removal((Window(3, 4),), (), 0, 0.0), {3, 4}),
        (Removal((), (), 0, 0.0, (attention,)), set()),
        (Removal((), (), 0, 0.0, (mlp,)), {mlp.position}),
    ):
        made = make(others, costs)
        assert made is not None
        assert (made.windows, made.gone) == (others.windows, others.gone)
        assert made.saved == pytest.approx(goal.amount, rel=0.03)
        assert {position for position, _ in made.cuts} == set(range(6)) - whole
        assert math.isnan(made.cost)
    assert even_removals(view, goal, Offers(), 4, 0.2)(Removal((), (), 0, 0.0), costs) is None  # type: ignore[arg-type]


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
