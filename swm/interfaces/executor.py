"""Executor: where the runs of a study are carried out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol

from swm.interfaces.strategy import Strategy

Job = Mapping[str, Any]
"""What a worker needs to know of one run, as plain data. `id` names the run, `folder` is the folder of the study."""
Row = Mapping[str, Any]
"""What a worker found, as plain data."""


class Pool(Protocol):
    """Places where jobs are carried out."""

    slots: int
    """How many jobs may be under way at once."""

    def submit(self, job: Job) -> Future[Row]:
        """Begin a job. The future raises WorkerDiedError when what carried it out is gone."""


class Executor(Strategy):
    """Opens a pool of workers. The study chooses the jobs and keeps their rows.

    A job's function may be called again with the same job after a worker died: it then finds what is done.
    """

    kind: ClassVar[str] = "executor"

    @abstractmethod
    def open(self, work: Callable[[Job], Row]) -> AbstractContextManager[Pool]:
        """Workers that call `work`, a function of a module, with each job. Raises an SwmError when there are none."""

    def check(self) -> None:
        """Raise an SwmError when something that the executor needs is missing. Must be cheap."""

    def at_once(self) -> int | None:
        """How many runs share one machine; None when that is unknown."""
        return 1
