"""Carrying out a study: which run is next, where, and what becomes of its row."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any

from filelock import FileLock

from swm.checkpoint.level import FULL
from swm.errors import SwmError
from swm.interfaces.executor import Job, Pool, Row
from swm.interfaces.progress import Progress, Task
from swm.study.inputs import input_hashes, is_current
from swm.study.journal import Journal
from swm.study.loading import LoadedStudy
from swm.study.planned_file import write_planned
from swm.study.planning import PlannedRuns
from swm.study.run_sources import GridRuns, RunSource
from swm.study.runs import RunBuilder, StudyRun
from swm.study.worker import carry_out

# How often runs that another process has claimed are looked at again, in seconds.
PATIENCE = 2.0


@dataclass(frozen=True)
class Tally:
    """How a study ended: runs that are done, that failed, and that another process has under way."""

    done: int
    failed: Sequence[Row]
    elsewhere: int

    def __repr__(self) -> str:
        return f"Tally({self.done} done, {len(self.failed)} failed, {self.elsewhere} under way elsewhere)"


@dataclass
class StudyRunner:
    """A study under way.

    Args:
        loaded: The study.
        journal: The rows of its folder.
        source: What says which run is next.
        pool: Where runs are carried out.
        progress: Where the number of runs is shown.
        tell: Called with every row that is written.
        retry_failed: Whether runs that failed before are run again.
    """

    loaded: LoadedStudy
    journal: Journal
    source: RunSource
    pool: Pool
    progress: Progress
    tell: Callable[[Row], None] = lambda row: None
    retry_failed: bool = False

    def __post_init__(self) -> None:
        rows = {row["id"]: row for row in self.journal.rows()}
        self._known = {key: row for key, row in rows.items() if row["state"] == "done" or not self.retry_failed}
        self._running: dict[Future[Row], tuple[StudyRun, FileLock]] = {}
        self._elsewhere: list[StudyRun] = []
        self._done = 0
        self._failed: list[Row] = []
        self._inputs_of: dict[str, dict[str, str]] = {}
        self._written: int | None = None

    def run(self) -> Tally:
        """Carry out all runs that are not done. A run that fails gets a row with its error and stops no other."""
        self._write_planned()
        with self.journal.at_work(), self.progress.task("study", self.source.total()) as task:
            while True:
                self._start(task)
                if self._running:
                    finished, _ = wait(self._running, timeout=PATIENCE, return_when=FIRST_COMPLETED)
                    for future in finished:
                        self._finish(future, task)
                elif not self._await_others(task):
                    break
        return Tally(self._done, self._failed, len(self._elsewhere))

    def _start(self, task: Task) -> None:
        while len(self._running) < self.pool.slots:
            following = self.source.take()
            if following is None:
                return
            self._begin(following, task)

    def _begin(self, run: StudyRun, task: Task) -> None:
        known = self._known.get(run.id)
        if known is not None and self._is_current(run, known):
            self._note(run, known, task)
            return
        lock = self.journal.claim(run.id)
        if lock is None:
            self._elsewhere.append(run)
            return
        # Another process may have done it since the journal was read.
        new = self._new_row(run)
        if new is not None:
            lock.release()
            self._note(run, new, task)
            return
        self._running[self.pool.submit(self._job(run))] = run, lock

    def _new_row(self, run: StudyRun) -> Row | None:
        """A run's row as the journal has it by now; None where the run is still to do."""
        row = {row["id"]: row for row in self.journal.rows()}.get(run.id)
        if row is None or (row["state"] != "done" and self.retry_failed) or not self._is_current(run, row):
            return None
        return row

    def _is_current(self, run: StudyRun, row: Row) -> bool:
        return is_current(row, self._inputs(run), self.journal.folder)

    def _inputs(self, run: StudyRun) -> dict[str, str]:
        """Hashes of what a run reads, computed once, so that all runs of one call are of one state of the files."""
        if run.id not in self._inputs_of:
            plugins = self.loaded.plugin_files
            self._inputs_of[run.id] = input_hashes(run.read_keys, self.journal.folder, plugins, run.code)
        return self._inputs_of[run.id]

    def _job(self, run: StudyRun) -> Job:
        study = self.loaded.study
        settings: dict[str, Any] = {
            "folder": str(self.journal.folder.resolve()),
            "plugins": list(self.loaded.plugin_files),
            "keep_models": study.keep_models,
            "verify": study.recipe.get("verify", FULL),
            "cache": study.cache,
            "inputs": self._inputs(run),
        }
        return {**dataclasses.asdict(run), **settings}

    def _finish(self, future: Future[Row], task: Task) -> None:
        run, lock = self._running.pop(future)
        error = future.exception()
        if error is None:
            row = future.result()
        elif isinstance(error, KeyboardInterrupt):
            raise error
        else:  # the process is gone, or its row could not be sent
            message = str(error) if isinstance(error, SwmError) else f"{type(error).__name__}: {error}"
            row = {**run.identity(), "state": "failed", "error": message, "seconds": None}
        # Another study may have given the same run another name.
        row = {**row, **run.identity(), "inputs": self._inputs(run)}
        if run.kind != "dense":
            row["recipe"] = run.recipe
        self.journal.add(row)
        lock.release()
        self.tell(row)
        self._note(run, row, task)

    def _note(self, run: StudyRun, row: Row, task: Task) -> None:
        self._done += row["state"] == "done"
        if row["state"] != "done":
            self._failed.append(row)
        task.advance(note=run.name)
        self.source.finished(run, row)
        self._write_planned()

    def _write_planned(self) -> None:
        """Write what the study asks for, where that is more than was written."""
        known = self.source.known()
        if self._written is None or len(known) > self._written:
            self._written = len(known)
            write_planned(self.journal.folder, known, whole=bool(known), total=self.source.total() if known else None)

    def _await_others(self, task: Task) -> bool:
        """Whether anything is left that other processes have claimed and that is worth waiting for."""
        if not self._elsewhere:
            return False
        time.sleep(PATIENCE)
        runs, self._elsewhere = self._elsewhere, []
        for run in runs:
            self._begin(run, task)
        return True


def run_grid(
    loaded: LoadedStudy,
    journal: Journal,
    progress: Progress,
    tell: Callable[[Row], None],
    retry_failed: bool = False,
    *,
    planned: PlannedRuns,
) -> Tally:
    """Run a grid on the study's executor.

    Args:
        loaded: The study.
        journal: The rows of the study's folder.
        progress: Where the number of runs is shown.
        tell: Called with every row that is written.
        retry_failed: Whether runs that failed before are run again.
        planned: The runs of the grid.

    Returns:
        How many runs are done, failed, or under way elsewhere.
    """
    source = GridRuns(planned, RunBuilder(loaded))
    with loaded.study.executor.open(carry_out) as pool:
        return StudyRunner(loaded, journal, source, pool, progress, tell, retry_failed).run()
