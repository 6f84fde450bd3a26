"""From which folder the paths of a recipe or a study count: from the one that swm was started in, each of them."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from swm.errors import RecipeError, SwmWarning
from swm.paths import expanded, is_file


def named_file(name: str, recipe: Path, what: str) -> Path:
    """The path of a file that a recipe or study file names; nothing is said of whether it exists.

    It counts from the working folder, like those of texts, models, outputs and of all options on the command line, so
    that a copy of the recipe means the same wherever it lies. Earlier versions looked for plugins and recipes beside
    the file; what lies only there is found until the next version, with a warning.

    Args:
        name: The path as it is written.
        recipe: The file that names it.
        what: What messages call it.

    Returns:
        The path, which counts from the working folder or is absolute.

    Raises:
        RecipeError: It is in the working folder and beside the file, and these are two files.
    """
    path = expanded(name)
    beside = recipe.parent / path
    if path.is_absolute() or not is_file(beside):
        return path
    if is_file(path):
        if not path.samefile(beside):
            raise RecipeError(
                f"{what} {name} is in {Path.cwd()} and also beside {recipe}. Paths count from the folder that swm is "
                f"started in, and in earlier versions from the file: write {path.absolute()} or {_from_here(beside)}"
            )
        return path
    warnings.warn(
        f"{what} {name} was found beside {recipe}. Paths of a recipe count from the folder that swm is started in: "
        f"write {_from_here(beside)}. The next version will not look beside the file",
        SwmWarning,
        stacklevel=2,
    )
    return _from_here(beside)


def _from_here(path: Path) -> Path:
    return Path(os.path.relpath(path))
