"""LayerMerger strategies, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.mergers.average import Average
from swm.mergers.best_neurons import BestNeurons
from swm.mergers.consolidate import Consolidate
from swm.mergers.delete import Delete
from swm.mergers.distilled import Distilled
from swm.mergers.ema import EMA
from swm.mergers.least_squares import LeastSquares
from swm.mergers.linear import Linear
from swm.mergers.sum import Sum
from swm.plugins.hookspecs import hookimpl


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    for strategy in (Average, BestNeurons, Consolidate, Delete, Distilled, EMA, LeastSquares, Linear, Sum):
        register(strategy)
