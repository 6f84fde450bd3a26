"""What the commands share: options, where they print, how they show progress."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swm.checkpoint.level import FAST, FULL, NONE
from swm.commands.command import stdout
from swm.escapes import visible
from swm.files import json_text as jsontext

if TYPE_CHECKING:
    from rich.console import Console

    from swm.interfaces.progress import Progress
    from swm.plugins.loading import Plugins

Recipe = Annotated[Path, typer.Argument(help="A recipe in YAML.", show_default=False)]
Set = Annotated[list[str], typer.Option("--set", help="Override: stages.0.depth.target.ratio=0.35 (again for more).")]
PluginFile = Annotated[list[str], typer.Option("--plugin", help="A Python file with strategies (again for more).")]
PlanPlugins = Annotated[
    bool,
    typer.Option("--plan-plugins", help="Run the plugin files that the plan names, where they are as they were."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no tables.")]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")]
Memory = Annotated[
    str | None,
    typer.Option(help="How much it may take beside what lies in files: 8GiB. By default 70 % of what is free."),
]


class Verify(StrEnum):
    """The levels of `swm.checkpoint.level`."""

    none = NONE
    fast = FAST
    full = FULL


VerifyOption = Annotated[
    Verify | None,
    typer.Option(
        "--verify",
        help="How the saved folder is checked. full, the default: a fresh process loads and runs it; fast: its tensors "
        "and its config are compared with those in memory; none. Push refuses what is not full.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output folder.")]


def warn_broken(plugins: Plugins, quiet: bool) -> None:
    """A line for each installed plugin that could not be used, and for each name that two of them claim."""
    clashes = [
        f"{kind} '{name}' is claimed by {' and by '.join(origins)}"
        for (kind, name), origins in plugins.registry.contested().items()
    ]
    for warning in [*map(str, plugins.broken), *clashes]:
        if not quiet:
            say(f"warning: {warning}", fg="yellow", err=True)


def progress_of(quiet: bool) -> Progress:
    """Bars on standard error, or nothing; of several processes only the first shows any."""
    if quiet or os.environ.get("RANK", "0") != "0":
        from swm.interfaces.progress import Silent

        return Silent()
    from rich.console import Console

    from swm.commands.console import ConsoleProgress

    # The stream is fixed here: what other libraries write to standard error is kept from it for a while.
    return ConsoleProgress(Console(file=sys.stderr))


def out() -> Console:
    """Standard output for tables; a reader that goes away is an OSError, as for every other stream."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            # rich calls this while it handles the error.
            raise

    stream = stdout()
    return Output(file=stream) if stream.isatty() else Output(file=stream, width=110)


def print_json(data: Any) -> None:
    """The result as JSON and nothing else on standard output."""
    typer.echo(jsontext.dumps(data, indent=2), file=stdout())


def say(text: object, *, fg: str | None = None, err: bool = False) -> None:
    """A line for people, in which nothing acts on the terminal."""
    typer.secho(visible(text), None if err else stdout(), fg=fg, err=err)
