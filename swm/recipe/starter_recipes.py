"""Starter recipes: commented files to copy and to change."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from swm.errors import RecipeError, unknown
from swm.files.outputs import output_file
from swm.files.writing import write_text

STARTERS = resources.files("swm.recipe") / "starters"


def starter_recipes() -> dict[str, str]:
    """The starter recipes by name, and what each is for."""
    return {name: starter(name).splitlines()[0].removeprefix("# ") for name in _names()}


def starter(name: str) -> str:
    """The text of a starter recipe. Raises RecipeError for an unknown name."""
    if name not in _names():
        raise RecipeError(unknown("starter recipe", name, _names()))
    return (STARTERS / f"{name}.yaml").read_text(encoding="utf-8")


def copy_starter(name: str, place: str | Path, overwrite: bool = False) -> Path:
    """Copy a starter recipe into a folder, or to a file that ends in `.yaml`; returns the file.

    Args:
        name: Its name.
        place: An existing folder, or the file.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        RecipeError: For an unknown name, and for a file that is there.
        CheckpointError: Where the file cannot be written.
    """
    text, given = starter(name), Path(place)
    file = output_file(given if given.suffix in (".yaml", ".yml") else given / f"{name}.yaml", "recipe")
    if file.exists() and not overwrite:
        raise RecipeError(f"{file} exists; name another file or folder, or pass --overwrite")
    try:
        write_text(file, text)
    except OSError as error:
        raise RecipeError(f"{file} cannot be written: {error.strerror or error}") from None
    return file


def _names() -> list[str]:
    return sorted(item.name.removesuffix(".yaml") for item in STARTERS.iterdir() if item.name.endswith(".yaml"))
