"""Standard output that is closed, full, or read no further."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

# The exit code that shells give a program that a closed pipe ended.
PIPE_CLOSED = 141
FAILED = 1


@contextmanager
def written_out() -> Iterator[None]:
    """Everything that the block prints is written when it ends; where that fails, one message and no traceback.

    A reader that went away ends the program as it ends any other; a full disk is an error with exit code 1.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # Closed by the parent process: nobody reads it.
            setattr(sys, name, io.StringIO())
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        _give_up()
        if error.errno == errno.EPIPE:
            sys.exit(PIPE_CLOSED)
        place = f"{error.filename}: " if error.filename else "standard output: " * (error.errno == errno.ENOSPC)
        sys.stderr.write(f"error: {place}{error.strerror or error}\n")
        sys.exit(FAILED)


def _give_up() -> None:
    """What is left to be written goes nowhere, so that the interpreter does not try once more."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        try:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        except (OSError, ValueError):
            sys.stdout = io.StringIO()


def no_stdout() -> redirect_stdout[io.StringIO]:
    """Inside the block nothing is printed: libraries print advice, and what a program of ours prints may be JSON."""
    return redirect_stdout(io.StringIO())
