"""The journal of a study: `runs.jsonl`, which only grows by a line a run, and claims, so that nothing is done twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from swm.errors import StudyError, at
from swm.files import json_text as jsontext
from swm.files.outputs import output_path, try_folder
from swm.files.scratch import clear_dead, is_scratch
from swm.files.typed_json import check
from swm.files.writing import write_yaml
from swm.interfaces.executor import Row
from swm.study.journal_row import JournalRow

RUNS = "runs.jsonl"
STUDY = "study.yaml"
# Before the number of a process that works on a study, in the name of the lock that it holds.
PROCESS = "process-"


class Journal:
    """The rows of a study's folder. Several processes may read it and add to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / RUNS

    def rows(self) -> list[Row]:
        """The newest row of every run, in the order in which they were first written; torn lines are left out."""
        newest: dict[str, Row] = {}
        for row in self._read():
            newest[row["id"]] = row
        return list(newest.values())

    def current_rows(self) -> list[Row]:
        """Of `rows` those that no later row contradicts: of the files that they read, none has changed since.

        What was measured on two states of a text or a model cannot stand in one table.
        """
        newest: dict[str, str] = {}
        for row in self._read():
            newest |= row.get("inputs") or {}
        return [row for row in self.rows() if (row.get("inputs") or {}).items() <= newest.items()]

    def _read(self) -> Iterator[Row]:
        try:
            text = self.file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        except OSError as error:
            raise StudyError(f"{self.file} cannot be read: {error.strerror}") from None
        for number, line in enumerate(text.split("\n"), 1):
            try:
                row = jsontext.restored(json.loads(line))
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and "id" in row:
                check(JournalRow, row, f"{self.file}:{number}", StudyError)
                yield row

    def add(self, row: Row) -> None:
        """Write a row; it is on the disk when this returns. Raises StudyError when it cannot be."""
        line = jsontext.dumps(row).encode() + b"\n"
        try:
            with FileLock(self.folder / ".journal.lock"), self.file.open("ab+") as file:
                file.seek(0, os.SEEK_END)
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    # A line that was torn off must not swallow this one.
                    line = line if file.read(1) == b"\n" else b"\n" + line
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StudyError(
                f"{self.file} cannot be written: {error.strerror}; what is done stays, and the same command goes on"
            ) from None

    def claim(self, run: str) -> FileLock | None:
        """The right to do a run, until it is released or this process ends; None when another process has it."""
        lock = FileLock(self.folder / "claims" / f"{run}.lock", timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return None
        return lock

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Shows others that this process works on the study, while it does."""
        number = 0
        while (lock := self.claim(f"{PROCESS}{number}")) is None:
            number += 1
        try:
            yield
        finally:
            lock.release()

    def workers(self) -> int:
        """How many processes work on the study now; asking disturbs none of them."""
        held = 0
        for file in (self.folder / "claims").glob(f"{PROCESS}*.lock"):
            lock = self.claim(file.stem)
            if lock is None:
                held += 1
            else:
                lock.release()
        return held


def open_journal(output: str | Path, described: Mapping[str, Any]) -> Journal:
    """The journal in a study's folder, which is made if it is not there.

    Raises StudyError for a folder that holds something else or that cannot be written.
    """
    with at("output"):
        folder = output_path(output)
    try:
        if not folder.exists():
            try_folder(folder)
        elif not folder.is_dir() or _holds_other_things(folder):
            raise StudyError(f"output {output} has no {STUDY}, so it is no study's; choose another folder", ("output",))
        folder.mkdir(parents=True, exist_ok=True)
        clear_dead(folder)
        # Before anything else of the study, so that no other process takes its folder for something else.
        write_yaml(folder / STUDY, described)
        (folder / "claims").mkdir(exist_ok=True)
        (folder / "runs").mkdir(exist_ok=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise StudyError(f"output {output} cannot be written: {why}", ("output",)) from None
    return Journal(folder)


def _holds_other_things(folder: Path) -> bool:
    """Whether a folder holds something and is no study's. What another process is writing in it is nothing."""
    # Listed first: a study's folder that springs up beside this has its description before it has anything else.
    things = [item for item in folder.iterdir() if not is_scratch(item)]
    return bool(things) and not (folder / STUDY).is_file()
