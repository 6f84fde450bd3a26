"""Progress in a notebook: one line for each step, with a bar while it runs and its time when it is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from markupsafe import escape

from swm.escapes import one_line

# Seconds between two drawings of a bar.
PAUSE = 0.2


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook: one that shows HTML, not a terminal or a script."""
    session: Any = sys.modules.get("IPython")
    shell = session.get_ipython() if session is not None and hasattr(session, "get_ipython") else None
    return shell is not None and getattr(shell, "kernel", None) is not None


class NotebookProgress:
    """Lines in the output of the cell that runs; it needs no widgets, so a saved notebook shows them too."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._display: Any = None
        self._drawn = 0.0

    def announce(self, text: str) -> None:
        self._lines.append(f'<span style="opacity:.7">{escape(one_line(text))}</span>')
        self._draw()

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[_Line]:
        self._lines.append("")
        line = _Line(self, len(self._lines) - 1, label, total)
        line.show()
        done = False
        try:
            yield line
            done = True
        finally:
            line.end(done)

    def put(self, number: int, text: str, at_once: bool = True) -> None:
        """Change a line; without `at_once` the output is drawn again only every now and then."""
        self._lines[number] = text
        if at_once or time.perf_counter() - self._drawn > PAUSE:
            self._draw()

    def _draw(self) -> None:
        from IPython.display import HTML, display

        self._drawn = time.perf_counter()
        shown = HTML('<div style="font-size:90%">' + "<br>".join(self._lines) + "</div>")
        if self._display is None:
            self._display = display(shown, display_id=True)
        else:
            self._display.update(shown)


class _Line:
    """One running step."""

    def __init__(self, owner: NotebookProgress, number: int, label: str, total: int | None) -> None:
        self._owner, self._number, self._label, self._total = owner, number, str(escape(one_line(label))), total
        self._start, self._done, self._note = time.perf_counter(), 0, ""

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        self._note = str(escape(one_line(note))) if note else self._note
        self._owner.put(self._number, self._text(), at_once=False)

    def show(self) -> None:
        """Draw the line as it is."""
        self._owner.put(self._number, self._text())

    def end(self, done: bool) -> None:
        """Say how long it took, or that it broke off."""
        took = f"{time.perf_counter() - self._start:.1f} s"
        self._owner.put(self._number, f"{self._label}: {took}" if done else f"{self._label}: broken off after {took}")

    def _text(self) -> str:
        if self._total is None:
            bar = "<progress></progress>"
        else:
            of = f"{self._done}/{self._total}{self._left()}"
            bar = f'<progress value="{self._done}" max="{self._total}"></progress> {of}'
        return f"{self._label} {bar} {self._note}".rstrip()

    def _left(self) -> str:
        """About how many seconds are left, once that can be said."""
        if not self._done or not self._total or self._done >= self._total:
            return ""
        each = (time.perf_counter() - self._start) / self._done
        return f", {each * (self._total - self._done):.0f} s left"
