"""Where swm keeps what it would otherwise make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$SWM_CACHE`, or `swm` in the user's cache folder."""
    given = os.environ.get("SWM_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else (Path(base) if base else Path.home() / ".cache") / "swm"
