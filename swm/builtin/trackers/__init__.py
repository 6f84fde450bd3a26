"""Tracker strategies, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.builtin.trackers.trackio import Trackio
from swm.plugins.hookspecs import hookimpl


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    register(Trackio)
