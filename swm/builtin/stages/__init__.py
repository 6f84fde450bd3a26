"""Built-in stages: what may stand in a recipe's `stages`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.builtin.stages.allocate import AllocateStage
from swm.builtin.stages.depth import DepthStage
from swm.builtin.stages.distil_blocks import DistilBlocksStage
from swm.builtin.stages.recover import RecoverStage
from swm.builtin.stages.repair import RepairStage
from swm.builtin.stages.vocabulary import VocabularyStage
from swm.builtin.stages.width import WidthStage
from swm.builtin.steps.drop import DropStep
from swm.builtin.steps.fit_layer import FitLayerStep
from swm.builtin.steps.keep import KeepStep
from swm.builtin.steps.keep_expert_channels import KeepExpertChannelsStep
from swm.builtin.steps.keep_tokens import KeepTokensStep
from swm.builtin.steps.merge import MergeStep
from swm.builtin.steps.merge_experts import MergeExpertsStep
from swm.builtin.steps.refit import RefitStep
from swm.builtin.steps.train import TrainStep
from swm.plugins.hookspecs import hookimpl


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    repairs = (DistilBlocksStage, RecoverStage, RepairStage)
    for stage in (AllocateStage, DepthStage, *repairs, VocabularyStage, WidthStage):
        register(stage)
    cuts = (DropStep, KeepExpertChannelsStep, KeepStep, KeepTokensStep)
    for step in (*cuts, FitLayerStep, MergeExpertsStep, MergeStep, RefitStep, TrainStep):
        register(step)
