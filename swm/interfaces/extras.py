"""Packages that only some users need: an extra of swm each, imported when it is used."""

from __future__ import annotations

import importlib.util

from swm.errors import RecipeError


def check_extra(what: str, package: str, extra: str, *path: str | int) -> None:
    """Raise RecipeError where a package is missing. Imports nothing.

    Args:
        what: What needs it, as in `executor 'x'`.
        package: The name that it is imported by.
        extra: The extra of swm that installs it.
        path: Where the recipe or the study asks for it.
    """
    if importlib.util.find_spec(package) is None:
        raise RecipeError(f"{what} needs the package {package}: pip install 'swm-pruning[{extra}]'", path)
