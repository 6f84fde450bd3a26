"""Which runs of trackers have begun and not ended, by recipe: the next run of the recipe goes on in them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from swm.files import json_text as jsontext
from swm.files.cache_folder import cache_folder
from swm.files.writing import write_json

FOLDER = "tracked-runs"


class TrackedRuns:
    """The ids of the trackers' runs of one recipe, in the cache from their start until the run is done.

    A second run of the recipe at the same time has runs of its own, of which nothing is kept; so has a run whose cache
    cannot be written.
    """

    def __init__(self, recipe: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(jsontext.dumps(recipe).encode()).hexdigest()[:40]
        self._file = cache_folder() / FOLDER / f"{digest}.json"
        self._lock = FileLock(self._file.with_name(f".{self._file.name}.lock"), timeout=0, thread_local=False)
        self._held = False
        self.ids: dict[str, str] = {}
        with contextlib.suppress(OSError, Timeout):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            self._held = True
            self.ids = _ids(self._file)

    def keep(self, ids: Mapping[str, str]) -> None:
        """Keep the ids of runs that have begun."""
        if self._held and ids:
            with contextlib.suppress(OSError):
                write_json(self._file, dict(ids))

    def close(self, done: bool) -> None:
        """The run has ended; what is `done` is not gone on with."""
        if not self._held:
            return
        with contextlib.suppress(OSError):
            if done:
                self._file.unlink(missing_ok=True)
            if not self._file.exists():
                Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()
        self._held = False


def _ids(file: Path) -> dict[str, str]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = data if isinstance(data, dict) else {}
    return {key: value for key, value in known.items() if isinstance(value, str)}
