"""What a study does now, told from the files of its folder alone, so that any process may watch it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swm.study.journal import RUNS, STUDY, Journal
from swm.study.planned_file import PLANNED, read_planned
from swm.study.results import Results, read_results
from swm.study.run_progress import RunState, running


@dataclass(frozen=True)
class Snapshot:
    """A study at one moment. `processes` work on it; `total` is about how many runs there are, where that is known."""

    results: Results
    running: Sequence[RunState]
    processes: int
    total: int | None

    @property
    def done(self) -> int:
        """How many of the runs that the study asks for are done."""
        return self._count("done")

    @property
    def failed(self) -> int:
        """How many of them have failed."""
        return self._count("failed")

    @property
    def sentence(self) -> str:
        """`12 of 40 runs done, 1 failed; 2 running in 1 process`."""
        of = f" of {self.total}" if self.total else ""
        failed = f", {self.failed} failed" if self.failed else ""
        if not self.processes:
            return f"{self.done}{of} runs done{failed}; no process works on the study"
        where = "1 process" if self.processes == 1 else f"{self.processes} processes"
        return f"{self.done}{of} runs done{failed}; {len(self.running)} running in {where}"

    def _count(self, state: str) -> int:
        return sum(row["state"] == state and not row.get("outside") for row in self.results.rows)


@dataclass
class Watch:
    """Looks at a study's folder again and again; what was measured is read anew only when there is more of it."""

    folder: Path
    _seen: tuple[object, ...] = ()
    _results: Results | None = field(default=None, repr=False)

    def look(self) -> Snapshot:
        """The study as it is now. Raises StudyError where the folder is no study's."""
        stamps = tuple(map(_stamp, (self.folder / name for name in (RUNS, STUDY, PLANNED))))
        if self._results is None or stamps != self._seen:
            self._seen, self._results = stamps, read_results(self.folder)
        # Before the runs: those of a process that ends in between are shown as over, not as running in none.
        processes = Journal(self.folder).workers()
        states = running(self.folder) if processes else []
        return Snapshot(self._results, states, processes, read_planned(self.folder).total)

    def follow(self, show: Callable[[Snapshot], None], wait: Callable[[], None]) -> Snapshot:
        """Show the study until no process works on it any more; returns what it ended with."""
        while True:
            snapshot = self.look()
            show(snapshot)
            if not snapshot.processes:
                return snapshot
            wait()


def _stamp(file: Path) -> object:
    try:
        about = file.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size
