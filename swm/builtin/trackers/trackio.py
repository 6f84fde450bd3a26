"""Runs in trackio: an SQLite file on this machine, or a Space on the Hugging Face hub."""

from __future__ import annotations

import importlib.util
import io
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from swm.errors import RecipeError
from swm.files import json_text as jsontext
from swm.interfaces.tracker import Flat, TrackedRun, Tracker


@final
@dataclass(frozen=True)
class Trackio(Tracker):
    """Records the run in a trackio `project`; `trackio show` displays it.

    Everything stays on this machine, in the folder that TRACKIO_DIR names, unless `space` is a Space on the hub.
    `run` is the run's name; without it trackio makes one up. A run that the same process has open in trackio ends.
    """

    name: ClassVar[str] = "trackio"

    project: Annotated[str, Field(min_length=1)] = "swm"
    run: str | None = None
    space: str | None = None

    def check(self) -> None:
        if importlib.util.find_spec("trackio") is None:
            raise RecipeError("tracker 'trackio' needs the package trackio: pip install 'swm-pruning[trackio]'")
        if self.space is not None:
            from huggingface_hub import get_token

            if get_token() is None:
                raise RecipeError("no login to the hub was found, so the Space cannot be written: hf auth login")

    def start(self, parameters: Flat) -> TrackedRun:
        import trackio

        with _no_stdout():
            run = trackio.init(
                project=self.project,
                name=self.run,
                space_id=self.space,
                config=dict(parameters),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        return _TrackioRun(run)


class _TrackioRun(TrackedRun):
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._run.log(dict(metrics), step=step)

    def finish(self, report: Mapping[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as folder, _no_stdout():
            file = Path(folder) / "report.json"
            file.write_text(jsontext.dumps(report, indent=2), encoding="utf-8")
            self._run.log_artifact(file, name="report", type="report")
            self._end()

    def fail(self, why: str) -> None:
        with _no_stdout():
            self._run.alert("the run ended with an error", text=why)
            self._end()

    def _end(self) -> None:
        import trackio

        if trackio.context_vars.current_run.get() is self._run:
            trackio.finish()
        else:
            self._run.finish()


def _no_stdout() -> redirect_stdout[io.StringIO]:
    """trackio prints advice; what a program of ours prints may be JSON."""
    return redirect_stdout(io.StringIO())
