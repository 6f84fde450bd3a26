"""Runs in MLflow: a server, a database, or a folder of this machine."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from swm.files import json_text as jsontext
from swm.interfaces.extras import check_extra
from swm.interfaces.tracker import Flat, TrackedRun, Tracker
from swm.paths import expanded

# What MLflow refuses in a name; of parameters it takes so many at once, and of each so many characters.
REFUSED = re.compile(r"[^\w\-. :/]")
AT_ONCE, LONGEST = 100, 6000
# The tag that says why a run did not come to its end.
ERROR = "swm.error"


@final
@dataclass(frozen=True)
class Mlflow(Tracker):
    """Records the run in an `experiment` of MLflow; `mlflow ui` displays it.

    `uri` is the address of a server, a database (`sqlite:///mlflow.db`) or a folder; without it MLflow's own default
    holds (`MLFLOW_TRACKING_URI`). `run` is the run's name; without it MLflow makes one up. A run that is repeated after
    a kill goes on in its run of MLflow.
    """

    name: ClassVar[str] = "mlflow"

    experiment: Annotated[str, Field(min_length=1)] = "swm"
    run: str | None = None
    uri: str | None = None

    def check(self) -> None:
        check_extra(f"tracker '{self.name}'", "mlflow", "mlflow")

    def start(self, parameters: Flat) -> TrackedRun:
        client = self._client()
        experiment = client.get_experiment_by_name(self.experiment)
        place = client.create_experiment(self.experiment) if experiment is None else experiment.experiment_id
        run = _MlflowRun(client, client.create_run(place, run_name=self.run), self.experiment)
        run.log_parameters(parameters)
        return run

    def resume(self, run: str, parameters: Flat) -> TrackedRun:
        client = self._client()
        client.set_terminated(run, "RUNNING")
        with contextlib.suppress(Exception):  # of a run that was killed there is none
            client.delete_tag(run, ERROR)
        return _MlflowRun(client, client.get_run(run), self.experiment)

    def _client(self) -> Any:
        uri = self.uri
        if uri is not None and ("://" not in uri or uri.startswith("file:")):
            # From MLflow 3.13 on a folder has to be asked for twice.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient

        return MlflowClient(str(expanded(uri)) if uri is not None and uri.startswith("~") else uri)


class _MlflowRun(TrackedRun):
    def __init__(self, client: Any, run: Any, experiment: str) -> None:
        self._client = client
        self.id = run.info.run_id
        self.link = f"run '{run.info.run_name}' ({self.id}) of experiment '{experiment}'"
        address = str(client.tracking_uri)
        if address.startswith(("http://", "https://")):
            self.link = f"{address}/#/experiments/{run.info.experiment_id}/runs/{self.id}"

    def log_parameters(self, parameters: Flat) -> None:
        """Log the recipe's values."""
        from mlflow.entities import Param

        entries = [Param(_named(key), str(value)[:LONGEST]) for key, value in parameters.items()]
        for first in range(0, len(entries), AT_ONCE):
            self._client.log_batch(self.id, params=entries[first : first + AT_ONCE])

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        from mlflow.entities import Metric

        now = int(time() * 1000)
        self._client.log_batch(
            self.id, metrics=[Metric(_named(key), value, now, step or 0) for key, value in metrics.items()]
        )

    def attach(self, files: Sequence[Path]) -> None:
        for file in files:
            self._client.log_artifact(self.id, str(file))

    def finish(self, report: Mapping[str, Any]) -> None:
        self._client.log_text(self.id, jsontext.dumps(report, indent=2), "report.json")
        self._client.set_terminated(self.id, "FINISHED")

    def fail(self, why: str) -> None:
        self._end("FAILED", why)

    def stop(self, why: str) -> None:
        self._end("KILLED", why)

    def _end(self, state: str, why: str) -> None:
        with contextlib.suppress(Exception):  # the state matters more
            self._client.set_tag(self.id, ERROR, why)
        self._client.set_terminated(self.id, state)


def _named(key: str) -> str:
    """The key as MLflow takes it. In a file store a slash makes a folder, which cannot have the name of a metric."""
    group, slash, rest = REFUSED.sub("_", key).partition("/")
    return group + slash + rest.replace("/", ".")
