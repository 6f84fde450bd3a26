"""What every command is run in: standard output belongs to its result, and only swm ends it."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import IO, Any, cast

import typer
from typer.core import TyperCommand

from swm.errors import SwmWarning, did_you_mean
from swm.escapes import visible
from swm.plugins.guarding import no_exit

NOT_ONE_OF = re.compile(r"'[^']*' is not one of .*", re.DOTALL)
QUOTED = re.compile(r"'([^']*)'")


class ToStandardError:
    """Takes the place of standard output: what plugins and libraries print goes to standard error."""

    def __init__(self, real: IO[str]) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


class Command(TyperCommand):
    """A command of swm."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override,unused-ignore]
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            # Of an option that takes a few values alone, only the message of the library says which.
            wrong = NOT_ONE_OF.search(error.message)
            if wrong is not None:
                given, *choices = QUOTED.findall(wrong[0])
                error.message = f"{wrong[0]}{did_you_mean(given, choices)}"
            raise

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override,unused-ignore]
        with redirect_stdout(cast(IO[str], ToStandardError(stdout()))), no_exit(), warnings_in_a_line():
            return super().invoke(ctx)


@contextmanager
def warnings_in_a_line() -> Iterator[None]:
    """Inside the block, what swm warns of is a line for people, without a place in the code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", SwmWarning)
        others = warnings.showwarning

        def show(message: Any, category: type[Warning], *place: Any) -> None:
            if issubclass(category, SwmWarning):
                typer.secho(visible(f"warning: {message}"), fg="yellow", err=True)
            else:
                others(message, category, *place)

        warnings.showwarning = cast(Any, show)
        yield


def stdout() -> IO[str]:
    """Standard output itself, for results."""
    stream: IO[str] = getattr(sys.stdout, "real", sys.stdout)
    return stream
