"""Runs in TensorBoard: event files in a folder of this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from swm.errors import RecipeError
from swm.escapes import markdown
from swm.files import json_text as jsontext
from swm.interfaces.extras import check_extra
from swm.interfaces.tracker import Flat, TrackedRun, Tracker
from swm.paths import expanded
from swm.processes.standard_output import no_stdout


@final
@dataclass(frozen=True)
class Tensorboard(Tracker):
    """Writes event files into `folder`, in a folder for each run; `tensorboard --logdir FOLDER` displays them.

    `run` is the name of the run's folder; without it that is the time of the start. TensorBoard has no states: the text
    `state` says how a run ended. A run that is repeated after a kill goes on in its folder.
    """

    name: ClassVar[str] = "tensorboard"

    folder: Annotated[str, Field(min_length=1)] = "runs"
    run: Annotated[str, Field(min_length=1)] | None = None

    def check(self) -> None:
        check_extra(f"tracker '{self.name}'", "tensorboard", "tensorboard")
        place = expanded(self.folder)
        if place.exists() and not place.is_dir():
            raise RecipeError(f"{self.folder} is no folder", ("folder",))

    def start(self, parameters: Flat) -> TrackedRun:
        folder = expanded(self.folder)
        name, number = self.run or time.strftime("%Y%m%d-%H%M%S"), 1
        place = folder / name
        while place.exists():
            number += 1
            place = folder / f"{name}-{number}"
        return _TensorboardRun(place, parameters)

    def resume(self, run: str, parameters: Flat) -> TrackedRun:
        if not Path(run).is_dir():
            raise FileNotFoundError(run)
        return _TensorboardRun(Path(run), parameters)


class _TensorboardRun(TrackedRun):
    def __init__(self, folder: Path, parameters: Flat) -> None:
        # Its import prints advice on protocol buffers where an accelerated form is missing.
        with no_stdout():
            from torch.utils.tensorboard import SummaryWriter
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = SummaryWriter(str(folder))
        self._parameters = dict(parameters)
        self._last: dict[str, float] = {}
        self.id = str(folder.absolute())
        self.link = f"run '{folder.name}' in {folder.parent.name}"
        rows = "\n".join(f"| {markdown(key)} | {markdown(value)} |" for key, value in parameters.items())
        self._writer.add_text("recipe", f"| key | value |\n|---|---|\n{rows}")
        self._writer.flush()

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, step or 0)
        self._last |= metrics
        self._writer.flush()

    def attach(self, files: Sequence[Path]) -> None:
        for file in files:
            if file.suffix in (".md", ".yaml"):
                text = file.read_text(encoding="utf-8")
                self._writer.add_text(file.name, text if file.suffix == ".md" else f"```yaml\n{text}\n```")

    def finish(self, report: Mapping[str, Any]) -> None:
        self._writer.add_text("report.json", f"```json\n{jsontext.dumps(report, indent=2)}\n```")
        # The table of runs by their parameters; a name of its own would make it another run.
        self._writer.add_hparams(self._parameters, self._last, run_name=".")
        self._end("finished")

    def fail(self, why: str) -> None:
        self._end(f"failed: {why}")

    def stop(self, why: str) -> None:
        self._end(f"stopped: {why}")

    def _end(self, state: str) -> None:
        self._writer.add_text("state", markdown(state))
        self._writer.close()
