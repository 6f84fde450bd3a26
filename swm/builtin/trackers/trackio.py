"""Runs in trackio: an SQLite file on this machine, or a Space on the Hugging Face hub."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from swm.errors import RecipeError
from swm.files import json_text as jsontext
from swm.interfaces.extras import check_extra
from swm.interfaces.tracker import Flat, TrackedRun, Tracker
from swm.processes.standard_output import no_stdout


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
        check_extra(f"tracker '{self.name}'", "trackio", "trackio")
        if self.space is not None:
            from huggingface_hub import get_token

            if get_token() is None:
                raise RecipeError("no login to the hub was found, so the Space cannot be written: hf auth login")

    def start(self, parameters: Flat) -> TrackedRun:
        return self._begin(self.run, parameters, "never")

    def resume(self, run: str, parameters: Flat) -> TrackedRun:
        return self._begin(run, parameters, "must")

    def _begin(self, run: str | None, parameters: Flat, resume: str) -> TrackedRun:
        import trackio

        with no_stdout():
            begun = trackio.init(
                project=self.project,
                name=run,
                space_id=self.space,
                config=dict(parameters),
                resume=resume,
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        place = f" in the Space {self.space}" if self.space else ""
        return _TrackioRun(begun, f"run '{begun.name}' of project '{self.project}'{place}")


class _TrackioRun(TrackedRun):
    def __init__(self, run: Any, link: str) -> None:
        self._run = run
        self.id = run.name
        self.link = link

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._run.log(dict(metrics), step=step)

    def attach(self, files: Sequence[Path]) -> None:
        import trackio

        if files:
            with no_stdout():
                artifact = trackio.Artifact(name="pages", type="report")
                for file in files:
                    artifact.add_file(file)
                self._run.log_artifact(artifact)

    def finish(self, report: Mapping[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as folder, no_stdout():
            file = Path(folder) / "report.json"
            file.write_text(jsontext.dumps(report, indent=2), encoding="utf-8")
            self._run.log_artifact(file, name="report", type="report")
            self._end()

    def fail(self, why: str) -> None:
        with no_stdout():
            self._run.alert("the run ended with an error", text=why)
            self._end()

    def _end(self) -> None:
        import trackio

        if trackio.context_vars.current_run.get() is self._run:
            trackio.finish()
        else:
            self._run.finish()
