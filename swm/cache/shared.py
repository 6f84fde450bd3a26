"""The observations that all studies of one user share."""

from __future__ import annotations

import os

from swm.cache.observations import GIB, ObservationCache
from swm.errors import SwmError, quoted
from swm.files.cache_folder import cache_folder

LIMIT = "SWM_CACHE_GIB"


def shared_observations() -> ObservationCache:
    """The user's observations; `$SWM_CACHE_GIB` says how much of them is kept. Raises SwmError for no number."""
    try:
        limit = float(os.environ.get(LIMIT, "10"))
    except ValueError:
        raise SwmError(f"{LIMIT} is {quoted(os.environ[LIMIT])}; it is a number of GiB, such as 10") from None
    return ObservationCache(cache_folder() / "observations", int(limit * GIB))
