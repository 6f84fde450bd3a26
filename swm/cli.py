"""The `swm` command. Heavy libraries are imported inside the commands, so that `swm --help` answers at once."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from swm.commands import cache, recipes, study
from swm.commands.auto import auto
from swm.commands.command import Command
from swm.commands.export import export
from swm.commands.installation import doctor, schema, strategies
from swm.commands.measure import compare, evaluate, inspect
from swm.commands.new_plugin import new_plugin
from swm.commands.options import say
from swm.commands.push import push
from swm.commands.run import apply, compress, diff, plan
from swm.errors import SwmError
from swm.processes.children import SAFE_PATH
from swm.processes.signals import exit_code, stoppable
from swm.processes.standard_output import written_out
from swm.version import __version__

app = typer.Typer(
    name="swm",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    *(auto, compress, plan, apply, diff, export, push, inspect, evaluate, compare),
    *(strategies, schema, doctor, new_plugin),
):
    app.command(cls=Command)(command)
app.add_typer(study.app, name="study")
app.add_typer(recipes.app, name="recipes")
app.add_typer(cache.app, name="cache")


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"swm {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Make large language models smaller by structured pruning."""


def main() -> None:
    """The entry point: errors of the user in one line and exit code 2, no traceback."""
    # Libraries below print progress bars and advice of their own.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Whatever process a library or a plugin starts, too.
    os.environ[SAFE_PATH] = "1"
    with stoppable(last=True) as stopping:
        try:
            with written_out():
                app()
        except BaseException as error:
            # Whatever others make of it on its way here.
            if stopping.number is not None:
                _say_stopped(stopping.number)
            if isinstance(error, MemoryError):
                hint = "use smaller batches, fewer samples, or a larger machine"
                say(f"error: there is not enough memory for this; {hint}", fg="red", err=True)
                sys.exit(1)
            if not isinstance(error, SwmError):
                raise
            say(f"error: {error}", fg="red", err=True)
            sys.exit(2)


def _say_stopped(number: int) -> NoReturn:
    if os.environ.get("RANK", "0") == "0":
        name = signal.Signals(number).name
        say(f"stopped by {name}; nothing was left half-written, and what is saved is found again", fg="red", err=True)
    sys.exit(exit_code(number))


if __name__ == "__main__":
    main()
