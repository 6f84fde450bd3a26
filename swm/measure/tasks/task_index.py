"""Finds the tasks of a protocol among lm-eval's own and those in folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swm.errors import RecipeError, at, did_you_mean, listed, nearest_file, quoted, unknown
from swm.measure.tasks.known_tasks import KNOWN, PRESETS, SEVEN, check_modules, definition_file, harness_version
from swm.measure.tasks.local_data import check_files
from swm.measure.tasks.protocol import TaskProtocol
from swm.measure.tasks.quiet_harness import quiet_harness
from swm.paths import is_folder


def check_tasks(protocol: TaskProtocol) -> None:
    """Raise RecipeError for an unknown task or a missing folder; loads no data and needs no network."""
    _check_plain(protocol)
    if not all(name in KNOWN for name in protocol.names()):
        TaskIndex(protocol)


class TaskIndex:
    """lm-eval's index of task files, no larger than the names need: the whole of it takes seconds.

    Raises RecipeError for names that no file defines, and for folders that do not exist.
    """

    def __init__(self, protocol: TaskProtocol) -> None:
        _check_plain(protocol)
        self._protocol = protocol
        self.manager = self._build(installed=False)
        self.local = frozenset(self.manager.all_tasks)
        if not all(self._is_complete(name) for name in protocol.names()):
            self.manager = self._build(installed=True)
        for i, name in enumerate(protocol.tasks):
            if name not in PRESETS and name not in KNOWN and name not in self.manager.task_index:
                known = (*sorted(self.local), *PRESETS, *KNOWN, *self.manager.all_tasks)
                allowed = _allowed(sorted(self.local))
                raise RecipeError(
                    f"unknown task '{name}'; allowed: {allowed}.{did_you_mean(name, known)}", ("tasks", i)
                )

    def definition(self, name: str) -> tuple[Path, Mapping[str, Any]]:
        """The file that defines a single task, and what it says. Raises RecipeError for groups and the like."""
        index = self.manager.task_index
        if name in KNOWN and name not in self.local:
            file = definition_file(name)
            with quiet_harness():
                from lm_eval.tasks import TaskManager

                index = TaskManager(include_path=[str(file.parent)], include_defaults=False).task_index
            entry = next(entry for entry in index.values() if entry.yaml_path == file)
        else:
            entry = index[name]
        if entry.yaml_path is None or not isinstance((entry.cfg or {}).get("task"), str):
            raise RecipeError(f"'{name}' stands for several tasks; files are named for each of them")
        return entry.yaml_path, entry.cfg

    def origin(self, task: Any) -> str | None:
        """The folder that holds the file of an lm-eval task, as the protocol writes it."""
        file = Path(str((task.get_config("metadata") or {}).get("config_source", "")))
        for given, folder in zip(self._protocol.include_path, self._protocol.folders(), strict=True):
            if file.is_relative_to(folder) or file.is_relative_to(folder.resolve()):
                return given
        return None

    def _build(self, installed: bool) -> Any:
        with quiet_harness():
            from lm_eval.tasks import TaskManager

            paths = [str(folder) for folder in self._protocol.folders()]
            return TaskManager(include_path=paths, include_defaults=installed)

    def _is_complete(self, name: str) -> bool:
        """Whether no more than the folders is needed; a group in a folder may name tasks of lm-eval itself."""
        if name not in self.local:
            return name in KNOWN
        members = (self.manager.task_index[name].cfg or {}).get("task")
        return not isinstance(members, list) or all(isinstance(m, str) and m in self.local for m in members)


def _check_plain(protocol: TaskProtocol) -> None:
    if not protocol.tasks:
        raise RecipeError(f"found no task; allowed: {_allowed(())}", ("tasks",))
    for i, (given, folder) in enumerate(zip(protocol.include_path, protocol.folders(), strict=True)):
        if not is_folder(folder):
            raise RecipeError(
                f"found {quoted(given)}; there is no such folder.{nearest_file(folder)}", ("include_path", i)
            )
    names = protocol.names()
    for name, files in protocol.task_data.items():
        with at("task_data"):
            if name not in names:
                raise RecipeError(unknown("task", name, names), (name,))
            with at(name):
                check_files(files)
    for name in names:
        if name in KNOWN:
            with at("tasks"):
                check_modules(name)


def _allowed(local: Sequence[str]) -> str:
    own = f"{listed(local)} (include_path), " if local else ""
    presets = f"seven ({', '.join(SEVEN)}), nine ({', '.join(PRESETS['nine'][len(SEVEN) :])} too)"
    return f"{own}{presets}, and every task of {harness_version()}"
