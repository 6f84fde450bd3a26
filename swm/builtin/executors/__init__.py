"""Executor strategies, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.builtin.executors.local import Local
from swm.builtin.executors.ray import Ray
from swm.builtin.executors.serial import Serial
from swm.builtin.executors.submitit import Submitit
from swm.plugins.hookspecs import hookimpl


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    for strategy in (Local, Ray, Serial, Submitit):
        register(strategy)
