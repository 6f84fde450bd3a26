"""Where the runs of a study come from: what is to do next, as far as that is known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from swm.interfaces.executor import Row
from swm.study.baselines import matched_baseline
from swm.study.planning import PlannedRuns
from swm.study.runs import RunBuilder, StudyRun


class RunSource(ABC):
    """Which runs there are to do, as far as that is known."""

    @abstractmethod
    def take(self) -> StudyRun | None:
        """The next run; None when there is none now, or none any more."""

    @abstractmethod
    def finished(self, run: StudyRun, row: Row) -> None:
        """Called when a run has a row, from now or from an earlier call."""

    def total(self) -> int | None:
        """About how many runs there are."""
        return None

    def known(self) -> Sequence[StudyRun]:
        """All runs that the study asks for, as far as they are known; empty where others choose them one by one."""
        return ()


@dataclass
class GridRuns(RunSource):
    """Runs that are known from the start, and baselines that remove as many layers as these did."""

    planned: PlannedRuns
    builder: RunBuilder
    queue: list[StudyRun] = field(default_factory=list)
    waiting: dict[str, list[StudyRun]] = field(default_factory=dict)
    """Runs by the measurement of the original model that they wait for."""
    ids: dict[str, StudyRun] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for run in self.planned.runs:
            self._add(run)

    def _add(self, run: StudyRun) -> None:
        if run.id in self.ids:
            return
        self.ids[run.id] = run
        if run.kind != "dense" and run.dense in self.waiting:
            self.waiting[run.dense].append(run)
        else:
            self.queue.append(run)
            if run.kind == "dense":
                self.waiting[run.id] = []

    def total(self) -> int:
        return len(self.ids)

    def known(self) -> Sequence[StudyRun]:
        return [*self.ids.values()]

    def take(self) -> StudyRun | None:
        return self.queue.pop(0) if self.queue else None

    def finished(self, run: StudyRun, row: Row) -> None:
        if run.kind == "dense":
            self.queue = [*self.waiting.pop(run.id, []), *self.queue]
        for name, plain in self.planned.unmatched.pop(run.id, []):
            if row["state"] == "done" and sum(row["removed_layers"]):
                baseline = matched_baseline(self.builder, name, plain, row["removed_layers"], run)
                if baseline is not None:
                    self._add(baseline)
