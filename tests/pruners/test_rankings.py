"""The pruners that rank single layers or runs of them, on scores drawn up by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from swm.errors import PlanError
from swm.interfaces.depth import DepthProposal, DepthPruner
from swm.model.windows import Window, check_windows
from swm.pruners.block_influence import BlockInfluence
from swm.pruners.contiguous import Contiguous
from swm.pruners.greedy_loss import GreedyLoss
from swm.pruners.last import Last
from swm.pruners.random import Random
from swm.pruners.single_loss import SingleLoss

NAN = math.nan


def removed_by(windows: Sequence[Window]) -> tuple[int, ...]:
    """The layers that a deletion of these windows takes away."""
    gone: list[int] = []
    for window in windows:
        assert window.keep is not None
        kept = window.first if window.keep == "bottom" else window.last
        gone += [i for i in range(window.first, window.last + 1) if i != kept]
    return tuple(sorted(gone))


@dataclass
class Context:
    """A `DepthContext` that looks everything up; losses are by removed layers, similarities by pair."""

    layers: int
    target: int | None
    similarities: Mapping[tuple[int, int], float] = field(default_factory=dict)
    losses: Mapping[tuple[int, ...], float] = field(default_factory=dict)
    seed: int = 0
    sizes: Sequence[float] | None = None
    asked: list[tuple[int, ...]] = field(default_factory=list)
    committed: list[tuple[int, ...]] = field(default_factory=list)
    # Layers that must stay, and layers that go only if another does.
    bound: frozenset[int] = frozenset()
    after: Mapping[int, int] = field(default_factory=dict)

    def removable(self, layers: Sequence[int]) -> bool:
        return self.bound.isdisjoint(layers) and all(self.after.get(layer, layer) in layers for layer in layers)

    def trial(self, windows: Sequence[Window], above: float | None = None) -> float:
        raise AssertionError("no ranking runs merged models for their similarity")

    def local(self, window: Window) -> float:
        raise NotImplementedError

    def compare(self, lower: int, upper: int) -> float:
        return self.similarities[lower, upper]

    def loss(self, windows: Sequence[Window]) -> float:
        check_windows(windows, self.layers)
        self.asked.append(removed_by(windows))
        return self.losses[self.asked[-1]]

    def commit(self, windows: Sequence[Window]) -> None:
        self.committed.append(removed_by(windows))


def removed(proposal: DepthProposal, layers: int) -> tuple[int, ...]:
    return removed_by(check_windows(proposal.windows, layers))


def influences(*similarities: float) -> dict[tuple[int, int], float]:
    return {(i, i + 1): value for i, value in enumerate(similarities)}


def test_block_influence_removes_the_layers_that_change_their_input_least() -> None:
    context = Context(6, 3, influences(0.2, 0.9, 0.5, 0.95, 0.8, 0.1))
    proposal = BlockInfluence().propose(context)
    assert removed(proposal, 6) == (1, 3, 4)
    assert proposal.facts["order"] == [3, 1, 4]
    assert proposal.facts["scores"]["2"] == 0.5
    assert list(proposal.facts["scores"]) == ["0", "1", "2", "3", "4", "5"]


def test_block_influence_may_take_the_ends_unless_they_are_protected() -> None:
    similarities = influences(0.9, 0.1, 0.2, 0.3, 0.8)
    assert removed(BlockInfluence().propose(Context(5, 2, similarities)), 5) == (0, 4)
    assert removed(BlockInfluence(protect_first=1).propose(Context(5, 2, similarities)), 5) == (3, 4)
    assert removed(BlockInfluence(1, 1).propose(Context(5, 2, similarities)), 5) == (2, 3)


def test_layers_at_the_bottom_that_go_one_by_one_make_disjoint_windows() -> None:
    proposal = BlockInfluence().propose(Context(5, 2, influences(0.9, 0.1, 0.8, 0.2, 0.3)))
    assert removed(proposal, 5) == (0, 2)
    with pytest.raises(PlanError, match="cannot remove layers"):
        BlockInfluence().propose(Context(3, 2, influences(0.9, 0.1, 0.8)))


def test_of_equal_layers_the_higher_one_goes_first() -> None:
    proposal = BlockInfluence().propose(Context(5, 3, influences(0.5, 0.9, 0.5, 0.5, 0.5)))
    assert proposal.facts["order"] == [1, 4, 3]


def test_a_score_that_is_not_a_number_is_chosen_last() -> None:
    similarities = influences(NAN, 0.1, NAN, 0.5, NAN)
    assert BlockInfluence().propose(Context(5, 2, similarities)).facts["order"] == [3, 1]
    assert BlockInfluence().propose(Context(5, 3, similarities)).facts["order"] == [3, 1, 4]


@pytest.mark.parametrize(
    ("best", "window"),
    [(0, Window(0, 3, "top")), (1, Window(0, 3, "bottom")), (2, Window(1, 4, "bottom")), (4, Window(3, 6, "bottom"))],
)
def test_contiguous_removes_the_run_over_which_least_changes_at_either_end_too(best: int, window: Window) -> None:
    similarities = {(i, i + 3): 0.9 if i == best else 0.5 for i in range(5)}
    proposal = Contiguous().propose(Context(7, 3, similarities))
    assert proposal.windows == [window]
    assert removed(proposal, 7) == (best, best + 1, best + 2)


def test_contiguous_spares_protected_ends_and_prefers_the_top() -> None:
    equal = {(i, i + 2): 0.5 for i in range(7)}
    assert removed(Contiguous().propose(Context(8, 2, equal)), 8) == (6, 7)
    assert removed(Contiguous(protect_last=1).propose(Context(8, 2, equal)), 8) == (5, 6)
    best_at_the_bottom = {(i, i + 2): 1 - i / 10 for i in range(7)}
    assert removed(Contiguous(protect_first=2).propose(Context(8, 2, best_at_the_bottom)), 8) == (2, 3)
    whole = Contiguous(protect_first=3, protect_last=3)
    assert removed(whole.propose(Context(8, whole.capacity(8), equal)), 8) == (3, 4)


def test_contiguous_passes_over_runs_that_are_not_numbers() -> None:
    similarities = {(0, 2): NAN, (1, 3): 0.1, (2, 4): NAN}
    assert removed(Contiguous().propose(Context(4, 2, similarities)), 4) == (1, 2)


def test_single_loss_removes_the_layers_without_which_the_loss_stays_lowest() -> None:
    losses = {(4,): 3.0, (5,): 2.0, (6,): NAN, (7,): 2.5, (8,): 2.0}
    context = Context(11, 3, losses=losses)
    proposal = SingleLoss().propose(context)
    assert context.asked == [(4,), (5,), (6,), (7,), (8,)]
    assert proposal.facts["order"] == [8, 5, 7]
    assert removed(proposal, 11) == (5, 7, 8)
    assert SingleLoss().effort(11, 3) == len(context.asked)
    assert removed(SingleLoss(protect_first=5, protect_last=4).propose(Context(11, 2, losses=losses)), 11) == (5, 6)


def test_greedy_loss_scores_the_rest_anew_after_every_removal() -> None:
    # Layer 2 is the best first one; with it gone 3, the second best before, has become the worst.
    losses = {(1,): 2.3, (2,): 2.0, (3,): 2.1, (4,): 2.4}
    losses |= {(1, 2): 2.6, (2, 3): 9.0, (2, 4): 2.5}
    losses |= {(1, 2, 4): 2.9, (2, 3, 4): 2.8}
    context = Context(6, 3, losses=losses)
    proposal = GreedyLoss().propose(context)
    assert proposal.facts["order"] == [2, 4, 3]
    assert proposal.facts["losses"] == [2.0, 2.5, 2.8]
    assert removed(proposal, 6) == (2, 3, 4)
    assert context.committed == [(2,), (2, 4), (2, 3, 4)]
    assert sorted(context.asked) == sorted(losses)
    assert GreedyLoss().effort(6, 3) == len(losses)


def test_greedy_loss_never_prefers_what_is_not_a_number() -> None:
    losses = {(1,): NAN, (2,): 5.0, (3,): NAN, (1, 2): 6.0, (2, 3): NAN}
    assert GreedyLoss().propose(Context(5, 2, losses=losses)).facts["order"] == [2, 1]


def test_last_removes_the_layers_before_the_final_one() -> None:
    assert Last().propose(Context(6, 2)).windows == [Window(2, 4, "bottom")]
    assert removed(Last(protect_last=0).propose(Context(6, 2)), 6) == (4, 5)
    assert removed(Last(protect_last=3).propose(Context(6, 3)), 6) == (0, 1, 2)


def test_random_draws_with_the_recipes_seed_or_its_own() -> None:
    drawn = [removed(Random().propose(Context(12, 4, seed=seed)), 12) for seed in range(30)]
    assert drawn == [removed(Random().propose(Context(12, 4, seed=seed)), 12) for seed in range(30)]
    assert len(set(drawn)) > 20
    assert removed(Random(seed=3).propose(Context(12, 4, seed=17)), 12) == drawn[3]
    assert {len(layers) for layers in drawn} == {4}


def test_random_spares_the_ends_and_nothing_else() -> None:
    drawn = {i for seed in range(60) for i in removed(Random().propose(Context(8, 3, seed=seed)), 8)}
    assert drawn == set(range(1, 7))
    assert removed(Random().propose(Context(8, 6)), 8) == (1, 2, 3, 4, 5, 6)


def test_rankings_pass_over_layers_that_the_model_cannot_do_without() -> None:
    similar = influences(0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
    bound = frozenset({0, 2})
    proposal = BlockInfluence().propose(Context(6, 2, similar, bound=bound))
    assert proposal.facts["order"] == [1, 3]
    assert proposal.facts["scores"]["0"] == pytest.approx(0.1)
    runs = {(i, i + 2): 1 - i / 10 for i in range(6)}
    assert removed(Contiguous().propose(Context(6, 2, runs, bound=bound)), 6) == (3, 4)
    assert Contiguous().propose(Context(6, 2, runs, bound=frozenset({1, 3, 5}))).windows == []
    losses = {(1,): 2.0, (3,): 2.1, (4,): 2.2, (1, 3): 2.5, (1, 4): 2.4}
    context = Context(6, 2, losses=losses, bound=bound)
    assert removed(SingleLoss(0, 1).propose(context), 6) == (1, 3)
    assert context.asked == [(1,), (3,), (4,)]
    assert GreedyLoss().propose(Context(6, 2, losses=losses, bound=bound)).facts["order"] == [1, 4]
    assert removed(Last().propose(Context(6, 2, bound=frozenset({4, 2}))), 6) == (1, 3)
    for seed in range(20):
        assert bound.isdisjoint(removed(Random().propose(Context(8, 4, seed=seed, bound=bound)), 8))


def test_a_layer_that_goes_only_with_another_goes_after_it() -> None:
    similar = influences(0.4, 0.9, 0.5, 0.6)
    assert BlockInfluence().propose(Context(4, 2, similar, after={1: 3})).facts["order"] == [1, 3]
    assert BlockInfluence().propose(Context(4, 2, similar, after={1: 2})).facts["order"] == [3, 2]
    assert BlockInfluence().propose(Context(4, 3, similar, after={1: 2})).facts["order"] == [1, 3, 2]


def test_fewer_layers_are_proposed_where_no_more_can_go() -> None:
    bound = frozenset({0, 1, 2})
    assert removed(Last(0).propose(Context(4, 2, bound=bound)), 4) == (3,)
    assert GreedyLoss(0, 0).propose(Context(4, 2, losses={(3,): 1.0}, bound=bound)).facts["order"] == [3]
    assert removed(Random(None, 0, 0).propose(Context(4, 2, bound=bound)), 4) == (3,)


@pytest.mark.parametrize(
    ("pruner", "most"),
    [
        (BlockInfluence(), 11),
        (BlockInfluence(2, 3), 7),
        (Contiguous(), 11),
        (SingleLoss(), 6),
        (GreedyLoss(), 10),
        (Last(), 11),
        (Random(), 10),
    ],
)
def test_capacity_counts_what_is_not_protected_and_leaves_one_layer(pruner: DepthPruner, most: int) -> None:
    assert pruner.capacity(12) == most
    assert pruner.uses_target()
