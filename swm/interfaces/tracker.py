"""Tracker: passes what a run does to an experiment tracker, while it does it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from swm.interfaces.strategy import Strategy

Flat = Mapping[str, str | int | float | bool]
"""Plain values by `dotted.key`."""


class TrackedRun(ABC):
    """One run as a tracker holds it; either `finish` or `fail` is the last call.

    What a method raises ends the tracking and becomes a note in the report; the run goes on.
    """

    @abstractmethod
    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers as they become known, named `group/metric`; `step` is that of a training."""

    @abstractmethod
    def finish(self, report: Mapping[str, Any]) -> None:
        """The run is done; `report` is what `report.json` holds."""

    @abstractmethod
    def fail(self, why: str) -> None:
        """The run ended with an error."""


class Tracker(Strategy):
    """An experiment tracker with its settings. Its library is imported when it is used, not before."""

    kind: ClassVar[str] = "tracker"

    @abstractmethod
    def check(self) -> None:
        """Raise an SwmError for a missing package or login. Called before anything heavy begins."""

    @abstractmethod
    def start(self, parameters: Flat) -> TrackedRun:
        """Begin a run with the recipe's values. An error ends the run before anything has been done."""
