"""Python processes that swm starts. None of them imports what lies in the working folder.

Python puts the working folder first on the path of `python -m`, of `python -c` and of what `multiprocessing` spawns: a
`json.py` beside a recipe would be run in place of Python's own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

SAFE_PATH = "PYTHONSAFEPATH"


def command(script: str, *arguments: str) -> list[str]:
    """The command that runs a Python file in a process of its own, with neither folder on the path."""
    return [sys.executable, "-P", script, *arguments]


def environment(without: Iterable[str] = ()) -> dict[str, str]:
    """The variables of a new process: those of this one but for `without`."""
    return {**{key: value for key, value in os.environ.items() if key not in set(without)}, SAFE_PATH: "1"}


@contextmanager
def safe_path() -> Iterator[None]:
    """Inside the block this holds for processes that a library starts with the variables of this one."""
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = before
