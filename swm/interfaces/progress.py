"""Progress: shows how far long steps have come. Library code never prints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

from swm.shown.notebook import NotebookProgress, in_notebook


class Task(Protocol):
    """One running step."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Say that `steps` more are done, with a short `note` to show."""


class Progress(Protocol):
    """Shows running steps; the command line has one made of bars, the default shows nothing."""

    def task(self, label: str, total: int | None = None) -> AbstractContextManager[Task]:
        """A running step; `total` None means that its end is not known."""


@runtime_checkable
class Announcer(Protocol):
    """A progress that also shows sentences."""

    def announce(self, text: str) -> None:
        """Show the text in a line of its own."""


def announce(progress: Progress, text: str) -> None:
    """Show the text, where the progress can."""
    if isinstance(progress, Announcer):
        progress.announce(text)


class _SilentTask:
    def advance(self, steps: int = 1, note: str = "") -> None:
        pass


class Silent:
    """Shows nothing."""

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Task]:
        yield _SilentTask()


def usual_progress() -> Progress:
    """What is meant where a caller names none: lines below the cell in a notebook, and nothing elsewhere."""
    return NotebookProgress() if in_notebook() else Silent()
