"""Low-rank factorisation for swm: the stage `lowrank`, ways to whiten, and ways to share the ranks among layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import swm
from swm_dipsvd.allocation import Allocation, AllocationContext, Shares
from swm_dipsvd.allocations.bayes import Bayes
from swm_dipsvd.allocations.dip_heuristic import DipHeuristic
from swm_dipsvd.allocations.uniform import Uniform
from swm_dipsvd.allocations.vector import Vector
from swm_dipsvd.factor import FactorStep
from swm_dipsvd.lowrank import LowRankStage
from swm_dipsvd.moments import Moments
from swm_dipsvd.whitener import Whitener
from swm_dipsvd.whitening import Whitening
from swm_dipsvd.whitenings.absmean import AbsMean
from swm_dipsvd.whitenings.channel_weighted import ChannelWeighted
from swm_dipsvd.whitenings.cholesky import Cholesky
from swm_dipsvd.whitenings.fisher import Fisher
from swm_dipsvd.whitenings.none import NoWhitening

__all__ = [
    "Allocation",
    "AllocationContext",
    "FactorStep",
    "LowRankStage",
    "Moments",
    "Shares",
    "Whitener",
    "Whitening",
]

swm_api = 1


@swm.hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    for strategy in (LowRankStage, FactorStep):
        register(strategy)
    for whitening in (AbsMean, ChannelWeighted, Cholesky, Fisher, NoWhitening):
        register(whitening)
    for allocation in (Bayes, DipHeuristic, Uniform, Vector):
        register(allocation)
