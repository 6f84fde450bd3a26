"""Recovery strategies, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.plugins.hookspecs import hookimpl
from swm.recovery.distill import Distill
from swm.recovery.full import Full
from swm.recovery.lora import LoRA
from swm.recovery.partial import Partial


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    for strategy in (Distill, Full, LoRA, Partial):
        register(strategy)
