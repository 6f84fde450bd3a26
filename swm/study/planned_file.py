"""What a study asks for now, in its folder: which runs, what they are called, and where they stand in the grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from swm.errors import StudyError
from swm.files.typed_json import Record, check, read_json
from swm.files.writing import write_json
from swm.study.runs import StudyRun

PLANNED = "planned.json"


class PlannedRun(Record):
    """A run as the grid has it."""

    id: str
    kind: str
    name: str
    axes: dict[str, Any]


class _File(Record):
    total: int | None = None
    whole: bool = False
    runs: list[PlannedRun] = Field(default_factory=list)


@dataclass(frozen=True)
class Planned:
    """The runs that a study asks for. `whole` says that there are no others than those that follow one of them."""

    total: int | None = None
    whole: bool = False
    runs: Mapping[str, PlannedRun] = field(default_factory=dict)


def write_planned(folder: Path, runs: Iterable[StudyRun], *, whole: bool, total: int | None = None) -> None:
    """Write what the study asks for. Raises StudyError where it cannot be written.

    Args:
        folder: The study's folder.
        runs: The runs that are known.
        whole: Whether these are all, but for those that follow one of them.
        total: How many there will be, where that is more than are known.
    """
    known = [{"id": run.id, "kind": run.kind, "name": run.name, "axes": dict(run.axes)} for run in runs]
    data = {"total": len(known) if total is None else total, "whole": whole, "runs": known}
    try:
        write_json(folder / PLANNED, data)
    except OSError as error:
        raise StudyError(f"{folder / PLANNED} cannot be written: {error.strerror}") from None


def read_planned(folder: Path) -> Planned:
    """What a study asks for; nothing in folders of earlier versions. Raises StudyError for a damaged file."""
    file = folder / PLANNED
    if not file.is_file():
        return Planned()
    try:
        read = check(_File, read_json(file, "study", StudyError), str(file), StudyError)
    except StudyError as error:
        raise StudyError(f"{error}; run the study again with the same --output, which writes it anew") from None
    return Planned(read.total, read.whole, {run.id: run for run in read.runs})
