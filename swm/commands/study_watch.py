"""`swm study watch`: a study while it runs, in the terminal."""

from __future__ import annotations

import time
from functools import partial

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as Drawing
from rich.text import Text

from swm.commands.console import drawn, print_parts, print_text
from swm.escapes import one_line, visible
from swm.report.html_format import seconds
from swm.shown.tables import Table
from swm.study.run_progress import RunState
from swm.study.watching import Snapshot, Watch

BAR = 20
# Lines of the terminal beside those of the table and of the runs under way.
AROUND = 12


def watch_study(console: Console, watch: Watch, every: float) -> None:
    """Show a study until it ends, in a terminal; elsewhere once.

    Args:
        console: Where it is shown.
        watch: What looks at its folder.
        every: After how many seconds it is looked at again.
    """
    if not console.is_terminal:
        print_snapshot(console, watch.look())
        return
    snapshot = watch.look()
    if snapshot.processes:
        with Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop") as live:

            def show(now: Snapshot) -> None:
                live.update(view(now, console.height), refresh=True)

            snapshot = watch.follow(show, partial(time.sleep, every))
    print_snapshot(console, snapshot)


def print_snapshot(console: Console, snapshot: Snapshot) -> None:
    """The study as it is now, in full, as text."""
    print_parts(console, snapshot.results.parts())
    for state in snapshot.running:
        print_text(console, f"running: {_name(state)}: {_step(state)}, {seconds(time.time() - state.began)}")
    print_text(console, snapshot.sentence)


def view(snapshot: Snapshot, height: int) -> RenderableType:
    """What stands in the terminal: the runs under way, then as much of the table as there is room for."""
    runs = Drawing.grid(padding=(0, 2))
    for state in snapshot.running:
        runs.add_row(
            Text(_name(state), style="bold"),
            Text(_step(state)),
            ProgressBar(total=state.total, completed=state.done, width=BAR, pulse=not state.total),
            Text(seconds(time.time() - state.began), justify="right"),
            Text(one_line(state.note), style="dim"),
        )
    head = Text(f"{visible(snapshot.results.title)}: {snapshot.sentence}", style="bold")
    table = next(part for part in snapshot.results.parts() if isinstance(part, Table))
    room = max(3, height - AROUND - len(snapshot.running))
    more = len(table.rows) - room
    shown = drawn(Table(table.columns, table.rows[:room], "")) if table.rows else Text("no run is done yet")
    rest = Text(f"and {more} more; swm study show FOLDER has all", style="dim") if more > 0 else Text("")
    return Group(head, runs, shown, rest, Text("Ctrl-C ends the view, not the study", style="dim"))


def _name(state: RunState) -> str:
    return one_line(state.name)


def _step(state: RunState) -> str:
    step = one_line(state.step) or "begins"
    return f"{step} {state.done}/{state.total}" if state.total else step
