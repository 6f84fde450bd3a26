"""SIGINT, SIGTERM and SIGHUP end a process in order: what is half done is cleared, the exit code names the signal.

A signal raises `Stopped` in the main thread, so that every `finally` between there and the top runs. Whatever has not
ended the process `GRACE` seconds later does not stop it any more. A signal that was ignored at the start, as under
`nohup`, stays so.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType

KINDS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
GRACE = 30.0


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end."""


@dataclass
class Stopping:
    """The signal that came, if one did; later ones change nothing."""

    number: int | None = None

    def stop(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        if self.number is not None:
            return
        self.number = number
        hard = threading.Timer(GRACE, partial(os._exit, exit_code(number)))
        hard.daemon = True
        hard.start()
        raise Stopped(signal.Signals(number).name)


def exit_code(number: int) -> int:
    """What shells give for a process that a signal ended."""
    return 128 + number


@contextmanager
def stoppable(last: bool = False) -> Iterator[Stopping]:
    """Inside the block the signals raise `Stopped`. Only for the main thread.

    With `last` the process ends with the block: once a signal came, later ones do not disturb what it still clears.
    """
    stopping = Stopping()
    before = {kind: signal.getsignal(kind) for kind in KINDS}
    before = {kind: handler for kind, handler in before.items() if handler is not signal.SIG_IGN}
    for kind in before:
        signal.signal(kind, stopping.stop)
    try:
        yield stopping
    finally:
        if stopping.number is None or not last:
            for kind, handler in before.items():
                signal.signal(kind, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Inside the block this thread, and processes that it starts, get none of the signals."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, KINDS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def interruptible_children() -> Iterator[None]:
    """Inside the block, processes that this thread starts can be stopped by SIGINT even where this process ignores it.

    A shell makes what it starts in the background ignore SIGINT, and whoever ignores a signal passes that on. Only the
    main thread can change it.
    """
    if (
        signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return
    # A handler, even one that does nothing, is not passed on.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_on_sigterm() -> None:
    """From now on SIGTERM ends this process at once and without a message. Call it where `signals_blocked` started one.

    What a terminal sends to all processes is for the first of them.
    """
    signal.signal(signal.SIGTERM, _end)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(exit_code(number))
