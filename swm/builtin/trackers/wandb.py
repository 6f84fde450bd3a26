"""Runs in Weights & Biases: its server, or files of this machine that are sent later."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import Field

from swm.files import json_text as jsontext
from swm.interfaces.extras import check_extra
from swm.interfaces.tracker import Flat, TrackedRun, Tracker
from swm.paths import expanded
from swm.processes.standard_output import no_stdout

# The exit codes by which Weights & Biases tells the states of runs apart.
FAILED, KILLED = 1, 255


@final
@dataclass(frozen=True)
class Wandb(Tracker):
    """Records the run in a `project` of Weights & Biases.

    With `mode: offline` everything stays in `folder` (by default `wandb/`), until `wandb sync` sends it. `run` is the
    run's name; without it one is made up. A run that is repeated after a kill goes on in its run of Weights & Biases.
    """

    name: ClassVar[str] = "wandb"

    project: Annotated[str, Field(min_length=1)] = "swm"
    run: str | None = None
    entity: str | None = None
    mode: Literal["online", "offline"] | None = None
    folder: str | None = None

    def check(self) -> None:
        check_extra(f"tracker '{self.name}'", "wandb", "wandb")

    def start(self, parameters: Flat) -> TrackedRun:
        return self._begin(secrets.token_hex(4), parameters)

    def resume(self, run: str, parameters: Flat) -> TrackedRun:
        return self._begin(run, parameters)

    def _begin(self, number: str, parameters: Flat) -> TrackedRun:
        import wandb

        with no_stdout():
            # Where nobody is logged in it would ask, and its question would not be seen; so it says that instead.
            wandb.setup(settings=wandb.Settings(silent=True))
            run = wandb.init(
                project=self.project,
                name=self.run,
                entity=self.entity,
                config=dict(parameters),
                mode=self.mode,
                dir=None if self.folder is None else str(expanded(self.folder)),
                id=number,
                resume="allow",
                # A run that the same process has open goes on.
                reinit="create_new",
                settings=wandb.Settings(silent=True, console="off"),
            )
        return _WandbRun(run)


class _WandbRun(TrackedRun):
    def __init__(self, run: Any) -> None:
        self._run = run
        self._files: list[Path] = []
        self._with_steps: set[str] = set()
        self.id = run.id
        self.link = run.url or f"offline run '{run.id}' of project '{run.project}'; wandb sync sends it"

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = dict(metrics)
        if step is not None:
            # Its own steps only grow, and those of each training begin anew.
            for key in metrics:
                axis = f"{key.partition('/')[0]}/step"
                if key not in self._with_steps:
                    self._run.define_metric(key, step_metric=axis)
                    self._with_steps.add(key)
                values[axis] = step
        self._run.log(values)

    def attach(self, files: Sequence[Path]) -> None:
        self._files = list(files)

    def finish(self, report: Mapping[str, Any]) -> None:
        import wandb

        with no_stdout():
            artifact = wandb.Artifact(f"report-{self.id}", type="report")
            for file in self._files:
                artifact.add_file(str(file))
            with artifact.new_file("report.json", encoding="utf-8") as written:
                written.write(jsontext.dumps(report, indent=2))
            self._run.log_artifact(artifact)
            self._run.finish(exit_code=0)

    def fail(self, why: str) -> None:
        self._end(FAILED, why)

    def stop(self, why: str) -> None:
        self._end(KILLED, why)

    def _end(self, code: int, why: str) -> None:
        with no_stdout():
            self._run.summary["error"] = why
            self._run.finish(exit_code=code)
