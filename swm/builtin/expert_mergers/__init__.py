"""Built-in mergers of experts: what becomes of those that go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.builtin.expert_mergers.average import AverageExperts
from swm.plugins.hookspecs import hookimpl


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    register(AverageExperts)
