"""The command for authors of plugins: `new-plugin`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swm.commands.options import say


def new_plugin(
    name: Annotated[str, typer.Argument(help="What recipes will call it, such as my-metric.", show_default=False)],
    kind: Annotated[str, typer.Option(help="similarity, merger, depth, width, recovery or stage.", show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The folder; swm-NAME if not given.")] = None,
) -> None:
    """Write a plugin package that installs and passes its own tests."""
    from swm.plugins.loading import load_plugins
    from swm.scaffold.scaffolding import new_plugin

    folder = new_plugin(name, kind, load_plugins().registry, output)
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    say(f"wrote {shown}; next:\n  pip install -e '{shown}[test]'\n  pytest {shown}\n  swm strategies {kind}")
