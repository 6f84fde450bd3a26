"""Benchmark rows: kept one a line in a JSONL file so that a run can be continued, shown as sections of RESULTS.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import transformers

from swm.report.environment import processor

RESULTS = Path(__file__).with_name("RESULTS.md")
UNRECORDED = "not recorded"
"""The machine of a row from before each said which it was measured on."""

MOST_NAMES = 12
"""So many rows are named one by one."""


class Rows:
    """Rows by key. A row that is there is measured again only if asked; with `known_only`, none is measured at all."""

    def __init__(self, file: Path, known_only: bool = False) -> None:
        self.file = file
        self.known_only = known_only
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = file.read_text().splitlines() if file.exists() else []
        self.rows: dict[str, dict[str, Any]] = {row["key"]: row for row in map(json.loads, lines)}

    def measure(self, key: str, work: Callable[[], dict[str, Any]], again: bool = False) -> dict[str, Any]:
        """The row for `key`, from the file or from `work`; `{"missing": True}` where it may not be measured.

        Args:
            key: The name of the row.
            work: Measures it.
            again: Measure it also where it is there; the old one stays until the new one is whole.
        """
        if key not in self.rows and self.known_only:
            return {"missing": True}
        if key not in self.rows or (again and not self.known_only):
            there = key in self.rows
            self.rows[key] = {"key": key, **_without_folders(work()), "machine": machine()}
            if there:
                fresh = self.file.with_suffix(".new")
                fresh.write_text("".join(json.dumps(row) + "\n" for row in self.rows.values()))
                fresh.replace(self.file)
            else:
                with self.file.open("a") as stream:
                    stream.write(json.dumps(self.rows[key]) + "\n")
            print(key, {k: v for k, v in self.rows[key].items() if k != "key"}, flush=True)
        return self.rows[key]

    def machines(self, wanted: Iterable[str] | None = None) -> str:
        """A sentence with the machines on which rows were measured, and with which rows that were few.

        Args:
            wanted: The keys of the rows that are shown; None for all of the file.
        """
        keys = [key for key in (self.rows if wanted is None else wanted) if key in self.rows]
        of_machine: dict[str, list[str]] = {}
        for key in keys:
            of_machine.setdefault(self.rows[key].get("machine", UNRECORDED), []).append(key)
        if not of_machine:
            return f"Machine: {machine()}."
        most = max(of_machine, key=lambda each: len(of_machine[each]))
        others = "; ".join(f"of {told(rows)}: {name}" for name, rows in of_machine.items() if name != most)
        return f"Machine: {most}" + (f"; {others}. Seconds of two machines are no comparison." if others else ".")


def told(names: list[str]) -> str:
    """Names of rows for a sentence; of many, how many there are."""
    return ", ".join(f"`{name}`" for name in names) if len(names) <= MOST_NAMES else f"{len(names)} rows"


def _without_folders(found: Any) -> Any:
    """The same with files called by their names: where they were on one machine means nothing on another."""
    if isinstance(found, dict):
        return {
            key: Path(value).name if key == "path" and isinstance(value, str) else _without_folders(value)
            for key, value in found.items()
        }
    return [_without_folders(value) for value in found] if isinstance(found, list) else found


def write_section(name: str, text: str) -> None:
    """Replace the section between the markers of that name in RESULTS.md, or add it at the end."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = RESULTS.read_text() if RESULTS.exists() else "# Results\n"
    block = f"{begin}\n{text.strip()}\n{end}"
    if begin in page:
        head, rest = page.split(begin)
        page = head + block + rest.split(end)[1]
    else:
        page = f"{page.rstrip()}\n\n{block}\n"
    RESULTS.write_text(page)


def peak_memory() -> float:
    """The most memory, in MiB, that this process has had resident.

    Linux's own count of the process: that of getrusage begins with what the parent had when it forked.
    """
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forget_peak() -> None:
    """Let `peak_memory` begin anew, where Linux lets a process do so."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def machine() -> str:
    """This machine in a line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{platform.machine()}, {processor()}, {torch.get_num_threads()} threads, {memory:.0f} GiB, {gpu}; Python "
        f"{platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    )


def markdown_table(columns: list[str], rows: list[list[str]]) -> str:
    """A table; all columns after the first are aligned right."""
    head = ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    return "\n".join([*head, *("| " + " | ".join(row) + " |" for row in rows)])
