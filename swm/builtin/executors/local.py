"""`local`: processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.resource_tracker import ensure_running
from typing import Annotated, ClassVar

from pydantic import Field

from swm.errors import WorkerDiedError
from swm.files.scratch import clear_all_dead
from swm.interfaces.executor import Executor, Job, Pool, Row
from swm.processes.children import safe_path
from swm.processes.following import PATIENCE, end_with_parent
from swm.processes.signals import end_on_sigterm, exit_code, signals_blocked, stoppable

TRIES = 2
DIED = "its process was killed, and so was the one that tried it again; most often the memory ran out"


@dataclass(frozen=True)
class Local(Executor):
    """`workers` processes on this machine, one unless told otherwise, which share its cores evenly.

    A process does one run after the other. One that dies, as when memory runs out, makes room for a new one, which
    tries its run once more: the memory may have been another's. A run that two processes died of has failed, and no
    other run with it. A process whose study was killed ends by itself.
    """

    name: ClassVar[str] = "local"
    is_default: ClassVar[bool] = True

    workers: Annotated[int, Field(ge=1)] = 1
    threads: Annotated[int, Field(ge=1)] | None = None

    def at_once(self) -> int:
        return self.workers

    @contextmanager
    def open(self, work: Callable[[Job], Row]) -> Iterator[Pool]:
        threads = self.threads or max(1, (os.cpu_count() or 1) // self.workers)
        pool = _Processes(work, self.workers, threads)
        try:
            yield pool
        except BaseException:
            pool.stop()
            raise
        finally:
            pool.close()


class _Processes:
    """Pools of one process each, so that it is known whose run a dead process took along."""

    def __init__(self, work: Callable[[Job], Row], slots: int, threads: int) -> None:
        self.slots = slots
        self._work = work
        self._threads = threads
        # A new process may be started from the thread that saw the old one die, and `safe_path` is for one at a time.
        self._starting = threading.Lock()
        self._stopped = False
        self._all: list[ProcessPoolExecutor] = []
        # None for a process that is still to be started.
        self._free: list[ProcessPoolExecutor | None] = [None] * slots

    def submit(self, job: Job) -> Future[Row]:
        result: Future[Row] = Future()
        self._try(self._free.pop(), job, result, TRIES)
        return result

    def _try(self, idle: ProcessPoolExecutor | None, job: Job, result: Future[Row], tries: int) -> None:
        """Have a process do the job, and another one if it dies.

        Args:
            idle: The process; None for a new one.
            job: The job.
            result: Where the row or the error goes.
            tries: How many processes may still try it, this one included.
        """
        process = idle
        try:
            # The first job starts the process.
            with self._starting, safe_path():
                if self._stopped:
                    result.set_exception(WorkerDiedError("the study was stopped"))
                    return
                # Python's own process that cleans up after locks: whoever starts it gets the signals from then on.
                ensure_running()
                with signals_blocked():
                    process = idle or self._process()
                    future = process.submit(_one, self._work, job)
        except BrokenProcessPool:  # it died after its last run
            self._lost(process, job, result, tries - 1, DIED)
        except OSError as error:
            self._lost(process, job, result, tries - 1, f"no process could be started for it: {error.strerror}")
        else:
            future.add_done_callback(partial(self._ended, process, job, result, tries))

    def _process(self) -> ProcessPoolExecutor:
        process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (os.getpid(), self._threads))
        self._all.append(process)
        return process

    def _ended(
        self, process: ProcessPoolExecutor, job: Job, result: Future[Row], tries: int, future: Future[Row]
    ) -> None:
        """Take the process back, and pass on its row or its error.

        Args:
            process: The process.
            job: The job, for another process if this one died.
            result: Where the row or the error goes.
            tries: How many processes may still try the job, this one included.
            future: The process's own result.
        """
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            self._lost(process, job, result, tries - 1, DIED)
            return
        self._free.append(process)
        if error is None:
            result.set_result(future.result())
        else:
            result.set_exception(error)

    def _lost(self, process: ProcessPoolExecutor | None, job: Job, result: Future[Row], tries: int, why: str) -> None:
        """Try the job again after the death of a process, or give it up.

        Args:
            process: The dead process; None where none could be started.
            job: The job.
            result: Where the row or the error goes.
            tries: How many processes may still try the job.
            why: The reason, for the error.
        """
        if process is not None:
            process.shutdown(wait=False)
        if tries:
            self._try(None, job, result, tries)
            return
        self._free.append(None)
        result.set_exception(WorkerDiedError(why))

    def stop(self) -> None:
        """End the processes whatever they do; they clear what is half done, or this one does where one hangs."""
        with self._starting:
            self._stopped = True
        # Public only from Python 3.14 on.
        workers = [worker for process in self._all for worker in (process._processes or {}).values()]
        for worker in workers:
            worker.terminate()
        end = time.monotonic() + PATIENCE
        for worker in workers:
            worker.join(max(0.0, end - time.monotonic()))
        hanging = [worker for worker in workers if worker.is_alive()]
        for worker in hanging:
            worker.kill()
            worker.join()
        if hanging:
            clear_all_dead()

    def close(self) -> None:
        for process in self._free:
            if process is not None:
                process.shutdown()


def _begin(parent: int, threads: int) -> None:
    """What a new process does first."""
    end_on_sigterm()
    # Standard output is that of the study's own process.
    sys.stdout = sys.stderr
    import torch

    torch.set_num_threads(threads)
    end_with_parent(parent)


def _one(work: Callable[[Job], Row], job: Job) -> Row:
    with stoppable() as stopping:
        try:
            return work(job)
        except BaseException:
            if stopping.number is not None:
                os._exit(exit_code(stopping.number))
            raise
