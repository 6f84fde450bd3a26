"""What the command line shows: progress bars with the time left, tables, one-line errors."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table as Drawing
from rich.text import Text

from swm.costs.limit import UNITS
from swm.escapes import one_line, visible
from swm.interfaces.progress import Task
from swm.measure.inspection import Inspection
from swm.shown.tables import Part, Table

# Of a table that goes to no terminal.
WIDEST = 250


class _BarTask:
    def __init__(self, bars: Bars, label: str, total: int | None) -> None:
        self._bars = bars
        self._task = bars.add_task(one_line(label), total=total, note="")

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._bars.update(self._task, advance=steps, note=one_line(note))


class _LineTask:
    def advance(self, steps: int = 1, note: str = "") -> None:
        pass


class ConsoleProgress:
    """A bar while a step runs; where the output is no terminal, a line with its time when it is done."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def announce(self, text: str) -> None:
        print_text(self.console, text, "dim")

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Task]:
        if not self.console.is_terminal:
            start = time.perf_counter()
            yield _LineTask()
            print_text(self.console, f"{label}: {time.perf_counter() - start:.1f} s")
            return
        with Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=self.console,
        ) as bars:
            yield _BarTask(bars, label, total)


def print_text(console: Console, text: str, style: str = "") -> None:
    """A paragraph that holds text of others: it is shown as it is, and nothing in it acts on the terminal."""
    console.print(Text(visible(text), style=style))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Drawing:
    """A table of texts; columns after the first that hold numbers are aligned right."""
    return drawn(Table(columns, rows, title))


def drawn(made: Table) -> Drawing:
    """The table as rich draws it."""
    title = Text(visible(made.title)) if made.title else None
    result = Drawing(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(made.columns):
        result.add_column(Text(visible(column)), justify="right" if made.numeric(i) else "left", overflow="fold")
    for row in made.rows:
        result.add_row(*(Text(visible(cell)) for cell in row))
    return result


def _print_whole(console: Console, made: Drawing) -> None:
    """Print a table in its full width where the output is no terminal, which alone has a width to keep to."""
    width = console.width
    if not console.is_terminal:
        console.width = max(width, console.measure(made, options=console.options.update(width=WIDEST)).maximum)
    console.print(made)
    console.width = width


def print_parts(console: Console, parts: Iterable[Part]) -> None:
    """Sentences and tables, one below the other."""
    for part in parts:
        if isinstance(part, Table):
            _print_whole(console, drawn(part))
        else:
            print_text(console, part)


def limit_line(stage: str, limit: Mapping[str, Any]) -> str:
    """What a stage makes of its limit: `width: memory 1.2 MiB, planned 900.0 KiB, at most 1.0 MiB`."""
    number = UNITS[limit["unit"]].number
    planned = [f"planned {number(limit['planned'])}"] if "planned" in limit else []
    return ", ".join(
        [f"{stage}: {limit['unit']} {number(limit['before'])}", *planned, f"at most {number(limit['at_most'])}"]
    )


def show_inspection(console: Console, inspection: Inspection) -> None:
    """What `Inspection.parts` says, and its notes."""
    print_parts(console, inspection.parts())
    for note in inspection.notes:
        print_text(console, f"note: {note}", "yellow")
