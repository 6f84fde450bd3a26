"""What every tracker must do."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swm.errors import SwmError, quoted
from swm.interfaces.tracker import TrackedRun, Tracker
from swm.testing.checks import Checks, Parameters
from swm.testing.expect import expect, wrong

SETTINGS: dict[str, str | int | float | bool] = {
    "model": "tiny",
    "seed": 0,
    "calibration.samples": 8,
    "trust_remote_code": False,
    "budget.ratio": 0.2,
}
REPORT = {"model": {"source": "tiny", "layers": 6}, "perplexity": {"dense": {"value": 3.5}}, "notes": []}


class TrackerChecks(Checks):
    """Checks of a tracker, in a folder of each test; give parameters that keep it on this machine.

    Where its library is missing, `check` says so and they are skipped.
    """

    def test_a_run_is_followed_to_its_end(self, given: Parameters, tmp_path: Path) -> None:
        def story(tracker: Tracker) -> None:
            run = self._started(tracker)
            run.log({"dense/perplexity": 3.5, "dense/perplexity/standard_error": 0.1})
            for step in (1, 2, 3):
                run.log({"0-recover/loss": 2.0 / step}, step)
            run.log({"achieved/ratio": 0.2})
            run.finish(REPORT)

        self._told(given, tmp_path, story)

    def test_a_run_may_fail(self, given: Parameters, tmp_path: Path) -> None:
        def story(tracker: Tracker) -> None:
            run = self._started(tracker)
            run.log({"dense/perplexity": 3.5})
            run.fail("RuntimeError: the memory ran out")

        self._told(given, tmp_path, story)

    def test_runs_follow_one_another(self, given: Parameters, tmp_path: Path) -> None:
        def story(tracker: Tracker) -> None:
            for _ in range(2):
                run = self._started(tracker)
                run.log({"dense/perplexity": 3.5})
                run.finish(REPORT)

        self._told(given, tmp_path, story)

    def _started(self, tracker: Tracker) -> TrackedRun:
        run = tracker.start(SETTINGS)
        if not isinstance(run, TrackedRun):
            wrong(f"{type(tracker).__name__}.start gives a {type(run).__name__}; it must be a swm.TrackedRun")
        return run

    def _told(self, given: Parameters, folder: Path, story: Callable[[Any], None]) -> None:
        """Tell it a story; it may write files, and nothing to standard output, which can be JSON."""
        tracker, out = self.build(given), io.StringIO()
        try:
            tracker.check()
        except SwmError as error:
            pytest.skip(str(error))
        with contextlib.chdir(folder), contextlib.redirect_stdout(out):
            story(tracker)
        expect(not out.getvalue(), f"{self.who(given)} writes to standard output: {quoted(out.getvalue()[:80])}")
