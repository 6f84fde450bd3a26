"""DepthPruner strategies, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.hookspecs import hookimpl
from swm.pruners.block_influence import BlockInfluence
from swm.pruners.contiguous import Contiguous
from swm.pruners.greedy_loss import GreedyLoss
from swm.pruners.laco import LaCo
from swm.pruners.last import Last
from swm.pruners.random import Random
from swm.pruners.single_loss import SingleLoss
from swm.pruners.sliding_window import SlidingWindow


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    for strategy in (BlockInfluence, Contiguous, GreedyLoss, LaCo, Last, Random, SingleLoss, SlidingWindow):
        register(strategy)
