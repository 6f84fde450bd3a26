"""Measure strategies, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.builtin.measures.kl_to_dense import KlToDense
from swm.plugins.hookspecs import hookimpl


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    register(KlToDense)
