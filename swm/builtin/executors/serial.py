"""`serial`: in this very process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from swm.interfaces.executor import Executor, Job, Pool, Row


@dataclass(frozen=True)
class Serial(Executor):
    """One run after the other in the process of the study itself, for debuggers; a crash ends the study."""

    name: ClassVar[str] = "serial"

    @contextmanager
    def open(self, work: Callable[[Job], Row]) -> Iterator[Pool]:
        yield _ThisProcess(work)


class _ThisProcess:
    slots = 1

    def __init__(self, work: Callable[[Job], Row]) -> None:
        self._work = work

    def submit(self, job: Job) -> Future[Row]:
        future: Future[Row] = Future()
        future.set_result(self._work(job))
        return future
