"""Registers the rows of `swm.model.families` the way a plugin registers its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.model.families import BUILTIN_FAMILIES
from swm.plugins.hookspecs import hookimpl


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    for family in BUILTIN_FAMILIES:
        register(family)
