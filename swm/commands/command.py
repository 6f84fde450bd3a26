"""What every command is run in: standard output belongs to its result, and only swm ends it."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import IO, Any, cast

import typer
from typer.core import TyperCommand

from swm.plugins.guarding import no_exit


class ToStandardError:
    """Takes the place of standard output: what plugins and libraries print goes to standard error."""

    def __init__(self, real: IO[str]) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


class Command(TyperCommand):
    """A command of swm."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override,unused-ignore]
        with redirect_stdout(cast(IO[str], ToStandardError(stdout()))), no_exit():
            return super().invoke(ctx)


def stdout() -> IO[str]:
    """Standard output itself, for results."""
    stream: IO[str] = getattr(sys.stdout, "real", sys.stdout)
    return stream
