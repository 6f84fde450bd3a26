"""Built-in stages: what may stand in a recipe's `stages`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.plugins.hookspecs import hookimpl
from swm.stages.allocate import AllocateStage
from swm.stages.depth import DepthStage, MergeStep
from swm.stages.keep import KeepStep
from swm.stages.recover import RecoverStage, TrainStep
from swm.stages.repair import RefitStep, RepairStage
from swm.stages.width import WidthStage


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    for stage in (AllocateStage, DepthStage, RecoverStage, RepairStage, WidthStage):
        register(stage)
    for step in (KeepStep, MergeStep, RefitStep, TrainStep):
        register(step)
