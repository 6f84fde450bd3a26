"""ModelProvider strategies: short names for models that installed packages carry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.builtin.providers.smollm2 import SmolLM2
from swm.plugins.hookspecs import hookimpl


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    for strategy in (SmolLM2,):
        register(strategy)
