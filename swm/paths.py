"""Paths as people write them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """The path with `~` spelled out; as it is where there is no such user, so that nothing is found there."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_file(path: str | Path) -> bool:
    """Whether a file is there; for a name that no file can have, too."""
    return _holds(os.path.isfile, path)


def is_folder(path: str | Path) -> bool:
    """Whether a folder is there; for a name that no folder can have, too."""
    return _holds(os.path.isdir, path)


def _holds(question: Callable[[Path], bool], path: str | Path) -> bool:
    try:
        return question(expanded(path))
    except (OSError, ValueError):
        return False
