"""How far the runs of a study are, in small files of its folder, for whoever watches it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from swm.errors import StudyError, SwmError
from swm.files.typed_json import Record, check
from swm.interfaces.progress import Task

ENDING = ".progress.json"
# How often a file is written at most, in seconds.
PACE = 0.5


class RunState(Record):
    """What a run does now. Times are in seconds since 1970."""

    run: str
    name: str
    step: str = ""
    done: int = 0
    total: int | None = None
    note: str = ""
    worker: str = ""
    began: float
    step_began: float


@dataclass
class FileProgress:
    """Writes what a run does to a file, whole every time; a disk that is full does not stop the run."""

    file: Path
    run: str
    name: str
    _state: RunState = field(init=False)
    _written: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        now = time.time()
        worker = f"{socket.gethostname()}:{os.getpid()}"
        self._state = RunState(run=self.run, name=self.name, worker=worker, began=now, step_began=now)
        self._write()

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Task]:
        """A running step. What runs inside of another is shown alone while it does."""
        outer = self._state
        self._state = outer.model_copy(
            update={"step": label, "total": total, "done": 0, "note": "", "step_began": time.time()}
        )
        self._write()
        try:
            yield _FileTask(self)
        finally:
            self._state = outer

    def advance(self, steps: int, note: str) -> None:
        """More of the running step is done."""
        self._state = self._state.model_copy(update={"done": self._state.done + steps, "note": note})
        if time.time() - self._written > PACE:
            self._write()

    def end(self) -> None:
        """The run is over: nothing of it is left."""
        with suppress(OSError):
            self.file.unlink(missing_ok=True)

    def _write(self) -> None:
        self._written = time.time()
        beside = self.file.with_name(f"{self.file.name}.{os.getpid()}.new")
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(self._state.model_dump_json(), encoding="utf-8")
            os.replace(beside, self.file)


class _FileTask:
    def __init__(self, progress: FileProgress) -> None:
        self._progress = progress

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._progress.advance(steps, note)


@contextmanager
def reported(folder: Path, run: str, name: str) -> Iterator[FileProgress]:
    """The progress of one run in a study's folder, while it lasts."""
    progress = FileProgress(folder / "claims" / f"{run}{ENDING}", run, name)
    try:
        yield progress
    finally:
        progress.end()


def running(folder: Path) -> list[RunState]:
    """What the runs under way do, the longest running first. Files that are being written or damaged are left out."""
    states = []
    for file in sorted((folder / "claims").glob(f"*{ENDING}")):
        with suppress(OSError, ValueError, SwmError):
            states.append(check(RunState, json.loads(file.read_text(encoding="utf-8")), str(file), StudyError))
    return sorted(states, key=lambda state: (state.began, state.run))
