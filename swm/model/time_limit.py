"""A time limit on code of another package that offers none."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def time_limit(seconds: float, package: str) -> Iterator[None]:
    """Raise TimeoutError in code of `package` that is still running after that time.

    The code must be Python, so that the interpreter's profile hook sees every call of it. A signal would work in
    the main thread and on Unix only, and clash with other users of the alarm; another thread cannot be ended. The
    interpreter drops a hook that raises, and swallows what is raised in a weak reference's callback, which the garbage
    collector may run at any call: so it is raised in the functions of `package` only.
    """
    end = time.monotonic() + seconds
    before = sys.getprofile()

    def look(frame: Any, event: str, argument: Any) -> None:
        if time.monotonic() > end and frame.f_globals.get("__name__", "").partition(".")[0] == package:
            raise TimeoutError

    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(before)
