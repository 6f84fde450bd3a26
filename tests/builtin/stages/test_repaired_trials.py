"""The loss of a model after steps and a repair, without a change of the model."""

from __future__ import annotations

import copy

import pytest
import torch

from swm.builtin.stages.repair import RepairStage
from swm.builtin.stages.repaired_trials import RepairedTrials
from swm.builtin.steps.merge import MergeStep
from swm.interfaces.progress import Silent
from swm.interfaces.stage import StageContext
from swm.interfaces.text import Calibration
from swm.mergers.delete import Delete
from swm.model.samples import Samples
from swm.model.shape import ModelShape
from swm.model.view import ModelView
from swm.model.windows import Window
from swm.similarity.cosine import Cosine


def test_the_loss_is_that_of_the_repaired_model_and_nothing_changes(llama: ModelView) -> None:
    ids = torch.randint(3, 96, (20, 12), generator=torch.Generator().manual_seed(5))
    context = StageContext(llama, Calibration(ids, {}, 0), ModelShape(1, (1,)), 0, Silent())
    context.dense = lambda: ModelView(copy.deepcopy(llama.model), llama.family)
    step = MergeStep.of(llama, Window(1, 3), Delete())
    before = {name: value.clone() for name, value in llama.model.named_parameters()}
    loss = RepairedTrials(context, RepairStage(), Cosine(), Samples.of(ids)).loss([(step, {})])
    assert len(llama.layers) == llama.config.num_hidden_layers == 6
    assert all(torch.equal(value, before[name]) for name, value in llama.model.named_parameters())

    cut = ModelView(copy.deepcopy(llama.model), llama.family)
    step.apply(cut, {})
    own = StageContext(cut, context.calibration, context.original, 0, Silent(), dense=context.dense)
    RepairStage().perform(RepairStage().plan(own), own)
    with torch.no_grad():
        expected = cut.model(ids, labels=ids).loss
    assert loss == pytest.approx(float(expected), rel=1e-5)

    few = RepairedTrials(context, RepairStage(samples=4), Cosine(), Samples.of(ids)).loss([(step, {})])
    short = StageContext(llama, Calibration(ids[:4], {}, 0), context.original, 0, Silent(), dense=context.dense)
    assert few == RepairedTrials(short, RepairStage(), Cosine(), Samples.of(ids)).loss([(step, {})]) != loss
