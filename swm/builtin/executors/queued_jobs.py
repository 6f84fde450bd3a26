"""The jobs that a study has in the queue of a cluster: submitted, watched, and cancelled with the study."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swm.builtin.executors import one_job
from swm.builtin.executors.clusters import Cluster, LocalProcesses, Slurm
from swm.builtin.executors.one_job import ORDER, ROW, order_text, take_row
from swm.builtin.executors.queued_command import QueuedCommand
from swm.errors import RecipeError, WorkerDiedError, brief
from swm.files.writing import write_text
from swm.interfaces.executor import Job, Row
from swm.processes.children import command, safe_path
from swm.processes.signals import interruptible_children

FOLDER = "submitit"
JOB_ID = "job-id.txt"
# As many lines of a log say why a job failed.
TAIL = 15


@dataclass(frozen=True)
class JobRequest:
    """What each job asks for: `parameters` are those of submitit, `slots` how many jobs there may be at once."""

    cluster: str
    slots: int
    threads: int
    retries: int
    parameters: Mapping[str, Any]


@dataclass
class _Queued:
    """A job in the queue or running. `missed` counts how often it was not there and had left no row."""

    job: Any
    folder: Path
    result: Future[Row]
    missed: int = 0


class QueuedJobs:
    """A pool whose workers are jobs of a cluster.

    Each job has a folder in `submitit/` of the study's folder, for this user alone: its order, its row, its log, and
    what submitit keeps. A row is read from JSON; what submitit pickles on the machine of a job is not loaded here.
    """

    def __init__(self, request: JobRequest, work: Callable[[Job], Row]) -> None:
        self.slots = request.slots
        self._request = request
        self._work = work
        self._cluster: Cluster = Slurm() if request.cluster == "slurm" else LocalProcesses()
        self._queued: dict[str, _Queued] = {}
        self._ended: list[Any] = []
        self._submitted = False
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def submit(self, job: Job) -> Future[Row]:
        """Put a job into the queue; if an earlier call of the study did and was killed, find it there, or its row."""
        result: Future[Row] = Future()
        folder = Path(job["folder"]) / FOLDER / job["id"]
        again = self._is_ordered(folder, job)
        row = take_row(folder) if again else None
        if row is not None:
            result.set_result(row)
            return result
        try:
            earlier = self._cluster.earlier(folder, _job_id(folder)) if again else None
            queued = _Queued(earlier or self._put(folder, job), folder, result)
        except (RuntimeError, OSError) as error:  # of submitit, which passes on what sbatch says
            message = f"no job could be submitted: {brief(error)}"
            if not self._submitted:
                raise RecipeError(message, ("executor",)) from None
            result.set_exception(WorkerDiedError(message))
            return result
        self._submitted = True
        with self._lock:
            self._queued[job["id"]] = queued
        return result

    def _is_ordered(self, folder: Path, job: Job) -> bool:
        """Whether an earlier process gave the same order."""
        try:
            return (folder / ORDER).read_text(encoding="utf-8") == order_text(self._work, job)
        except OSError:
            return False

    def _put(self, folder: Path, job: Job) -> Any:
        import submitit

        request = self._request
        for each in (folder.parent, folder):
            each.mkdir(parents=True, exist_ok=True)
            # What submitit pickles is loaded on the machine of the job: nobody else may write it.
            each.chmod(0o700)
        for name in (ROW, JOB_ID):
            (folder / name).unlink(missing_ok=True)
        write_text(folder / ORDER, order_text(self._work, job))
        limit = {f"{request.cluster}_max_num_timeout": request.retries}
        executor = submitit.AutoExecutor(folder, cluster=request.cluster, **limit)
        executor.update_parameters(**request.parameters)
        threads = {"OMP_NUM_THREADS": str(request.threads)}
        with safe_path(), interruptible_children():
            queued = executor.submit(
                QueuedCommand(command(one_job.__file__, str((folder / ORDER).absolute())), threads)
            )
        write_text(folder / JOB_ID, queued.job_id)
        return queued

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._closing.wait(self._cluster.look):
            try:
                self._take_rows()
                if time.monotonic() - last >= self._cluster.period:
                    self._take_dead()
                    last = time.monotonic()
            except Exception as error:  # a study must not wait for a watcher that is gone
                for name in list(self._queued):
                    self._end(name).set_exception(WorkerDiedError(f"its job could not be watched: {brief(error)}"))

    def _take_rows(self) -> None:
        with self._lock:
            queued = list(self._queued.items())
        for name, each in queued:
            row = take_row(each.folder)
            if row is not None:
                self._end(name).set_result(row)

    def _take_dead(self) -> None:
        """Give up jobs that are gone and left no row. A shared disk may show a row late, so they are missed twice."""
        with self._lock:
            queued = dict(self._queued)
        alive = self._cluster.alive([each.job for each in queued.values()])
        for name, each in queued.items():
            each.missed = 0 if each.job.job_id in alive else each.missed + 1
            if each.missed > 1 and not (each.folder / ROW).exists():
                self._end(name).set_exception(WorkerDiedError(self._why(each)))

    def _end(self, name: str) -> Future[Row]:
        with self._lock:
            queued = self._queued.pop(name)
            self._ended.append(queued.job)
        return queued.result

    def _why(self, queued: _Queued) -> str:
        """What became of a job without a row, with the end of its log."""
        log = queued.job.paths.stdout
        place = Path(FOLDER) / queued.folder.name / log.name
        state = self._cluster.state(queued.job)
        try:
            lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        except OSError:
            return f"job {queued.job.job_id} {state} and left no row and no log"
        tail = "\n".join(f"  {line}" for line in lines[-TAIL:])
        return f"job {queued.job.job_id} {state} and left no row; its log {place} ends:\n{tail}"

    def cancel(self) -> None:
        """Cancel what is in the queue or runs."""
        with self._lock:
            queued = list(self._queued.values())
        self._cluster.cancel([each.job for each in queued])

    def close(self) -> None:
        """Stop watching."""
        self._closing.set()
        self._watcher.join()
        self._cluster.settle(self._ended)


def _job_id(folder: Path) -> str:
    try:
        return (folder / JOB_ID).read_text(encoding="utf-8")
    except OSError:
        return ""
