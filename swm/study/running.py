"""Carrying out a study: which run is next, where, and what becomes of its row."""

from __future__ import annotations

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

from filelock import FileLock

from swm.errors import SwmError
from swm.interfaces.executor import Job, Pool, Row
from swm.interfaces.progress import Progress, Task
from swm.study.cases import Case, CaseMaker, Cases, matched
from swm.study.description import LoadedStudy
from swm.study.inputs import content_of_inputs
from swm.study.journal import Journal
from swm.study.worker import carry_out

# How often runs that another process has claimed are looked at again, in seconds.
PATIENCE = 2.0


class Source(ABC):
    """Which runs there are to do, as far as that is known."""

    @abstractmethod
    def take(self) -> Case | None:
        """The next run; None when there is none now, or none any more."""

    @abstractmethod
    def done(self, case: Case, row: Row) -> None:
        """A run has a row, done now or by an earlier call."""

    def total(self) -> int | None:
        """About how many runs there are."""
        return None


@dataclass
class Listed(Source):
    """Runs that are known from the start, and baselines that follow what these removed."""

    cases: Cases
    maker: CaseMaker
    queue: list[Case] = field(default_factory=list)
    waiting: dict[str, list[Case]] = field(default_factory=dict)
    """Runs by the measurement of the original model that they wait for."""
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for case in self.cases.cases:
            self._put(case)

    def _put(self, case: Case) -> None:
        if case.id in self.seen:
            return
        self.seen.add(case.id)
        if case.kind != "dense" and case.dense in self.waiting:
            self.waiting[case.dense].append(case)
        else:
            self.queue.append(case)
            if case.kind == "dense":
                self.waiting[case.id] = []

    def total(self) -> int:
        return len(self.seen)

    def take(self) -> Case | None:
        return self.queue.pop(0) if self.queue else None

    def done(self, case: Case, row: Row) -> None:
        if case.kind == "dense":
            self.queue = [*self.waiting.pop(case.id, []), *self.queue]
        for name, plain in self.cases.unmatched.pop(case.id, []):
            if row["state"] == "done" and sum(row["removed_layers"]):
                found = matched(self.maker, name, plain, row["removed_layers"], case)
                if found is not None:
                    self._put(found)


@dataclass(frozen=True)
class Tally:
    """How a study ended: runs that are done, that failed, and that another process has under way."""

    done: int
    failed: Sequence[Row]
    elsewhere: int


@dataclass
class Running:
    """A study under way. `tell` is told of every row that is written."""

    loaded: LoadedStudy
    journal: Journal
    source: Source
    pool: Pool
    progress: Progress
    tell: Callable[[Row], None] = lambda row: None
    retry_failed: bool = False

    def __post_init__(self) -> None:
        known = {row["id"]: row for row in self.journal.rows()}
        self._known = {key: row for key, row in known.items() if row["state"] == "done" or not self.retry_failed}
        self._running: dict[Future[Row], tuple[Case, FileLock]] = {}
        self._elsewhere: list[Case] = []
        self._done = 0
        self._failed: list[Row] = []
        self._contents: dict[str, dict[str, str]] = {}

    def run(self) -> Tally:
        """Do what has not been done. A run that fails is written down and stops no other."""
        with self.progress.task("study", self.source.total()) as task:
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
            case = self.source.take()
            if case is None:
                return
            self._begin(case, task)

    def _begin(self, case: Case, task: Task) -> None:
        known = self._known.get(case.id)
        if known is not None and self._is_fresh(case, known):
            self._note(case, known, task)
            return
        lock = self.journal.claim(case.id)
        if lock is None:
            self._elsewhere.append(case)
            return
        # Another process may have done it since the journal was read.
        late = self._late(case)
        if late is not None:
            lock.release()
            self._note(case, late, task)
            return
        self._running[self.pool.submit(self._job(case))] = case, lock

    def _late(self, case: Case) -> Row | None:
        found = {row["id"]: row for row in self.journal.rows()}.get(case.id)
        if found is None or (found["state"] != "done" and self.retry_failed) or not self._is_fresh(case, found):
            return None
        return found

    def _is_fresh(self, case: Case, row: Row) -> bool:
        """Whether the files that the run read are still those of now; rows of before do not say what they were."""
        return row.get("inputs") in (None, self._inputs(case))

    def _inputs(self, case: Case) -> dict[str, str]:
        """The content of what a case reads, looked at once in a call: a study is of one state of its files."""
        if case.id not in self._contents:
            plugins = self.loaded.plugin_files
            self._contents[case.id] = content_of_inputs(case.recipe, self.journal.folder, plugins)
        return self._contents[case.id]

    def _job(self, case: Case) -> Job:
        study = self.loaded.study
        about: dict[str, Any] = {
            "folder": str(self.journal.folder.resolve()),
            "plugins": list(self.loaded.plugin_files),
            "keep_models": study.keep_models,
            "cache": study.cache,
            "inputs": self._inputs(case),
        }
        return {**dataclasses.asdict(case), **about}

    def _finish(self, future: Future[Row], task: Task) -> None:
        case, lock = self._running.pop(future)
        error = future.exception()
        if error is None:
            row = future.result()
        elif isinstance(error, KeyboardInterrupt):
            raise error
        else:  # the process is gone, or what it had to say did not get through
            said = str(error) if isinstance(error, SwmError) else f"{type(error).__name__}: {error}"
            row = {**_about(case), "state": "failed", "error": said, "seconds": None}
        # What is measured is the same for all who ask; what it is called is this study's business.
        row = {**row, **_about(case), "inputs": self._inputs(case)}
        self.journal.add(row)
        lock.release()
        self.tell(row)
        self._note(case, row, task)

    def _note(self, case: Case, row: Row, task: Task) -> None:
        self._done += row["state"] == "done"
        if row["state"] != "done":
            self._failed.append(row)
        task.advance(note=case.name)
        self.source.done(case, row)

    def _await_others(self, task: Task) -> bool:
        """Whether anything is left that other processes have claimed and that is worth waiting for."""
        if not self._elsewhere:
            return False
        time.sleep(PATIENCE)
        cases, self._elsewhere = self._elsewhere, []
        for case in cases:
            self._begin(case, task)
        return True


def _about(case: Case) -> dict[str, Any]:
    return {
        "id": case.id,
        "kind": case.kind,
        "name": case.name,
        "axes": dict(case.axes),
        "seed": case.seed,
        "group": case.group,
        "dense": case.dense,
        "follows": case.follows,
    }


def run_listed(
    loaded: LoadedStudy,
    journal: Journal,
    progress: Progress,
    tell: Callable[[Row], None],
    retry_failed: bool = False,
    *,
    cases: Cases,
) -> Tally:
    """Run the cases of a grid on the study's executor."""
    source = Listed(cases, CaseMaker(loaded))
    with loaded.study.executor.open(carry_out) as pool:
        return Running(loaded, journal, source, pool, progress, tell, retry_failed).run()
