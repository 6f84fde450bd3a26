"""Tracker strategies, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.plugins.hookspecs import hookimpl
from swm.trackers.trackio import Trackio


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    register(Trackio)
