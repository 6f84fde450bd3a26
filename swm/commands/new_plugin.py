"""The command for authors of plugins: `new-plugin`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swm.commands.options import progress_of, say


def new_plugin(
    name: Annotated[str, typer.Argument(help="What recipes will call it, such as my-metric.", show_default=False)],
    kind: Annotated[
        str,
        typer.Option(
            help="similarity, merger, expert-merger, depth, width, recovery, stage, text, measure, tracker, executor, "
            "model or family.",
            show_default=False,
        ),
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The folder; swm-NAME if not given.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="For a family: the model whose row is written to the file NAME.py.")
    ] = None,
) -> None:
    """Write a plugin package that installs and passes its own tests; for a family, a file with the row of a model."""
    from swm.errors import PluginError
    from swm.plugins.loading import load_plugins
    from swm.scaffold.family_file import new_family
    from swm.scaffold.scaffolding import FAMILY, new_plugin

    if (kind == FAMILY) != (from_ is not None):
        raise PluginError("--from MODEL goes with --kind family: the row is that of a model")
    registry = load_plugins().registry
    if from_ is not None:
        file = new_family(name, from_, registry, progress_of(False), output)
        shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
        say(f"wrote {shown}; next:\n  swm doctor '{from_}' --plugin '{shown}'")
        return
    folder = new_plugin(name, kind, registry, output)
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    say(f"wrote {shown}; next:\n  pip install -e '{shown}[test]'\n  pytest {shown}\n  swm strategies {kind}")
