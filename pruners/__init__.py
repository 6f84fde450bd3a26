"""DepthPruner and WidthPruner strategies, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.plugins.hookspecs import hookimpl
from swm.pruners.activation import Activation
from swm.pruners.best_windows import BestWindows
from swm.pruners.block_influence import BlockInfluence
from swm.pruners.contiguous import Contiguous
from swm.pruners.flap import FLAP
from swm.pruners.frequency import Frequency
from swm.pruners.greedy_loss import GreedyLoss
from swm.pruners.laco import LaCo
from swm.pruners.last import Last
from swm.pruners.llm_pruner import LLMPruner
from swm.pruners.magnitude import Magnitude
from swm.pruners.random import Random
from swm.pruners.random_units import RandomUnits
from swm.pruners.reap import REAP
from swm.pruners.single_loss import SingleLoss
from swm.pruners.sliding_window import SlidingWindow
from swm.pruners.wanda import Wanda


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    for strategy in (
        Activation,
        BestWindows,
        BlockInfluence,
        Contiguous,
        FLAP,
        Frequency,
        GreedyLoss,
        LaCo,
        Last,
        LLMPruner,
        Magnitude,
        Random,
        RandomUnits,
        REAP,
        SingleLoss,
        SlidingWindow,
        Wanda,
    ):
        register(strategy)
