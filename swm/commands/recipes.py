"""The commands of `swm recipes`: recipes to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swm.commands.command import Command
from swm.commands.options import Json, out, print_json, say

app = typer.Typer(no_args_is_help=True, help="Commented recipes to copy and to change.")


@app.command(cls=Command)
def list(as_json: Json = False) -> None:
    """List the starter recipes."""
    from swm.commands.console import table
    from swm.recipe.starter_recipes import starter_recipes

    recipes = starter_recipes()
    if as_json:
        print_json(recipes)
        return
    out().print(table("", ["name", "what it does"], [[name, about] for name, about in recipes.items()]))


@app.command(cls=Command)
def copy(
    name: Annotated[str, typer.Argument(help="One of `swm recipes list`.", show_default=False)],
    place: Annotated[Path, typer.Argument(help="A folder, or a file that ends in .yaml.")] = Path("."),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Copy a starter recipe; a file that is there is never replaced without --overwrite."""
    from swm.recipe.starter_recipes import copy_starter

    file = copy_starter(name, place, overwrite)
    say(f"wrote {file}; next:\n  swm compress '{file}'")
