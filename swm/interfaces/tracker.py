"""Tracker: passes what a run does to an experiment tracker, while it does it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from swm.interfaces.strategy import Strategy

Flat = Mapping[str, str | int | float | bool]
"""Plain values by `dotted.key`."""


class TrackedRun(ABC):
    """One run as a tracker holds it; `finish`, `fail` or `stop` is the last call.

    What a method raises ends the tracking and becomes a note in the report; the run goes on.
    """

    id: str | None = None
    """What `Tracker.resume` takes to go on with this run; None where that is impossible."""

    link: str | None = None
    """Where people find the run: an address, or words. It is shown in the report, so it names no path of a machine."""

    @abstractmethod
    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers as they become known, named `group/metric`; `step` is that of a training."""

    def attach(self, files: Sequence[Path]) -> None:  # noqa: B027  a tracker need not keep files
        """What the run left beside the weights: its pages, its plan, its recipe, its figures. Called before `finish`.

        The files may change later, so a tracker copies what it keeps. By default nothing is kept.
        """

    @abstractmethod
    def finish(self, report: Mapping[str, Any]) -> None:
        """The run is done; `report` is what `report.json` holds."""

    @abstractmethod
    def fail(self, why: str) -> None:
        """The run ended with an error."""

    def stop(self, why: str) -> None:
        """A signal ended the run, such as Ctrl-C; a tracker without a state for that has a run that failed."""
        self.fail(why)


class Tracker(Strategy):
    """An experiment tracker with its settings. Its library is imported when it is used, not before."""

    kind: ClassVar[str] = "tracker"

    @abstractmethod
    def check(self) -> None:
        """Raise an SwmError for a missing package or login. Called before anything heavy begins."""

    @abstractmethod
    def start(self, parameters: Flat) -> TrackedRun:
        """Begin a run with the recipe's values. An error ends the run before anything has been done."""

    def resume(self, run: str, parameters: Flat) -> TrackedRun:
        """Go on with the run of that id, of the same recipe, which did not come to its end: it was killed or failed.

        Whatever this raises, the run starts anew in the tracker; so it does by default.
        """
        return self.start(parameters)
