"""Layers that a model cannot do without: pruners that rank pass over them, and say when too few are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import pytest
import torch
from zoo import zoo_model
from zoo_multimodal import MULTIMODAL, multimodal_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.builtin.stages.depth import DepthStage
from swm.depth.layer_removals import LayerRemovals
from swm.errors import BudgetError, WindowError
from swm.interfaces.depth import DepthContext, DepthProposal, DepthPruner
from swm.interfaces.progress import Silent
from swm.interfaces.stage import Setting, StageContext
from swm.interfaces.target import Target
from swm.interfaces.text import Calibration
from swm.mergers.delete import Delete
from swm.model.families import find_family
from swm.model.shape import shape_now
from swm.model.view import ModelView
from swm.model.windows import windows_without
from swm.pruners.block_influence import BlockInfluence
from swm.pruners.contiguous import Contiguous
from swm.pruners.greedy_loss import GreedyLoss
from swm.pruners.last import Last
from swm.pruners.random import Random
from swm.pruners.single_loss import SingleLoss
from swm.similarity.cosine import Cosine

IDS = torch.arange(3, 75).reshape(6, 12)
RANKING: list[DepthPruner] = [
    BlockInfluence(),
    Contiguous(),
    GreedyLoss(0, 0),
    Last(0),
    Random(None, 0, 0),
    SingleLoss(0, 0),
]
# Image features are added behind the first two layers; the last layer is one of full attention, and others read its
# keys and values; the kinds of layers follow from their numbers.
REMOVABLE = {"qwen3_vl": {2, 3}, "gemma4_text, shared": {2}, "jamba": {3}}


def view_of(name: str) -> ModelView:
    model: Any = multimodal_model(name) if name in MULTIMODAL else zoo_model(name)
    return ModelView(model, find_family(model.config, BUILTIN_FAMILIES))


def removed(pruner: DepthPruner, view: ModelView, count: int) -> set[int]:
    """The layers that a plan removes."""
    context = StageContext(view, Calibration(IDS, "text", "none"), shape_now(view), 0, Silent())
    stage = DepthStage(pruner, Target(layers=count), Cosine(), Delete())
    stage.check(Setting(shape_now(view), view.family, view.model_config, *IDS.shape))
    steps = stage.plan(context).steps
    for step in steps:
        step.apply(view, {})
    return set(range(len(view.layers) + count)) - set(view.numbers)


@pytest.mark.parametrize("name", REMOVABLE)
def test_which_layers_can_go_alone(name: str) -> None:
    removals = LayerRemovals(view_of(name))
    assert {position for position in range(4) if not removals.refusal([position])} == REMOVABLE[name]


@pytest.mark.parametrize("pruner", RANKING, ids=lambda pruner: pruner.name)
@pytest.mark.parametrize("name", REMOVABLE)
def test_a_pruner_that_ranks_takes_only_layers_that_can_go(name: str, pruner: DepthPruner) -> None:
    assert removed(pruner, view_of(name), 1) <= REMOVABLE[name]


def test_removals_are_possible_together() -> None:
    # Of jamba, layer 2 goes once layer 3 does, and both first ones are a whole period.
    removals = LayerRemovals(view_of("jamba"))
    assert removals.refusal([2])
    assert removals.refusal([2, 3]) == removals.refusal([0, 1]) == ""
    assert "layers 0,2 of this jamba cannot be removed" in removals.refusal([2, 0])
    with pytest.raises(WindowError, match="layers 1 of this jamba"):
        removals.check([1])
    assert removed(BlockInfluence(), view_of("jamba"), 2) in ({2, 3}, {0, 1})


def test_how_many_layers_can_go_is_said_with_the_reason() -> None:
    with pytest.raises(BudgetError, match=r"only 1 of 2 layers can go .* the keys and values of "):
        removed(GreedyLoss(), view_of("gemma4_text, shared"), 2)
    # The last layer is protected by the pruner, the first two by the model.
    with pytest.raises(BudgetError, match=r"at most 1 here .*; the first 2 are protected"):
        removed(Last(), view_of("qwen3_vl"), 2)


@final
@dataclass(frozen=True)
class Careless(DepthPruner):
    """Takes the first layer whatever the model is."""

    name: ClassVar[str] = "careless"

    def propose(self, context: DepthContext) -> DepthProposal:
        gone: Sequence[int] = [0]
        return DepthProposal(windows_without(gone, context.layers))


def test_a_pruner_that_does_not_ask_is_refused() -> None:
    with pytest.raises(WindowError, match=r"its first 2 layers are protected, as features of the image"):
        removed(Careless(), view_of("qwen3_vl"), 1)
