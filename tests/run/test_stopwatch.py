"""The seconds of a run's parts are kept by name, also of parts that the progress does not show."""

from __future__ import annotations

from swm.interfaces.progress import Silent
from swm.run.stopwatch import Stopwatch


def test_each_part_has_its_seconds() -> None:
    seconds: dict[str, float] = {}
    stopwatch = Stopwatch(Silent(), seconds)
    with stopwatch.timed("load", "load the model"), stopwatch.timed("meet"):
        pass
    assert list(seconds) == ["meet", "load"]
    assert seconds["load"] >= seconds["meet"] >= 0
