"""Tracker strategies, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.builtin.trackers.mlflow import Mlflow
from swm.builtin.trackers.tensorboard import Tensorboard
from swm.builtin.trackers.trackio import Trackio
from swm.builtin.trackers.wandb import Wandb
from swm.plugins.hookspecs import hookimpl


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    for strategy in (Mlflow, Tensorboard, Trackio, Wandb):
        register(strategy)
