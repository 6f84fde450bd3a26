"""How long each part of a run takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from swm.interfaces.progress import Progress


@dataclass(frozen=True)
class Stopwatch:
    """Writes the seconds of each part of a run into `seconds`, by the name of the part."""

    progress: Progress
    seconds: dict[str, float]

    @contextmanager
    def timed(self, name: str, label: str = "") -> Iterator[None]:
        """Time the block; with a `label` the progress shows it as a step."""
        start = time.perf_counter()
        if label:
            with self.progress.task(label):
                yield
        else:
            yield
        self.seconds[name] = time.perf_counter() - start
