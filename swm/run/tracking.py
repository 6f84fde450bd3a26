"""Tracking: passes what the life-cycle hooks report of a run to the trackers of its recipe."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pluggy

from swm.errors import RecipeError, SwmError, at, brief
from swm.files.private_paths import absolute_paths, without_private_paths
from swm.interfaces.tracker import TrackedRun, Tracker
from swm.plugins.hookspecs import hookimpl
from swm.report.flatten import flat, numbers


class Tracking:
    """A plugin for the time of one run.

    A tracker that cannot start ends the run before it has cost anything. One that fails later is not called again, and
    `notes` says so: no tracker can lose a result.
    """

    def __init__(self, trackers: Sequence[Tracker], notes: list[str]) -> None:
        self._trackers = trackers
        self._notes = notes
        self._runs: dict[int, TrackedRun] = {}
        self._groups: dict[int, str] = {}
        self._paths: Collection[str] = ()

    @hookimpl
    def swm_run_started(self, recipe: dict[str, Any]) -> None:
        self._paths = absolute_paths(recipe).values()
        parameters = flat(without_private_paths(recipe, self._paths))
        for i, tracker in enumerate(self._trackers):
            try:
                with at("trackers", i):
                    self._runs[i] = tracker.start(parameters)
            except SwmError:
                raise
            except (Exception, SystemExit) as error:  # a tracker's library may raise anything
                message = f"tracker '{tracker.name}' cannot start: {_error_text(error)}"
                raise RecipeError(message, ("trackers", i)) from error

    @hookimpl
    def swm_stage_started(self, index: int, stage: Any) -> None:
        self._groups[index] = f"{index}-{stage.name}"

    @hookimpl
    def swm_training_step(self, stage_index: int, step: int, loss: float) -> None:
        self._log({f"{self._group(stage_index)}/loss": loss}, step)

    @hookimpl
    def swm_stage_finished(self, index: int, stage: Any, facts: dict[str, Any]) -> None:
        self._log(numbers({self._group(index): facts}))

    @hookimpl
    def swm_measured(self, which: str, metrics: dict[str, Any]) -> None:
        self._log(numbers({which: metrics}))

    @hookimpl
    def swm_run_finished(self, report: dict[str, Any]) -> None:
        self._log(numbers({key: report[key] for key in ("compressed", "achieved") if key in report}))
        shown = without_private_paths(report, self._paths)
        self._each(lambda run: run.finish(shown))
        self._runs.clear()

    def abandon(self, error: BaseException) -> None:
        """Report an error that ended the run to the trackers that still follow it."""
        self._each(lambda run: run.fail(_error_text(error)))
        self._runs.clear()

    def _group(self, index: int) -> str:
        return self._groups.get(index, str(index))

    def _log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if metrics:
            self._each(partial(_log, metrics=metrics, step=step))

    def _each(self, call: Callable[[TrackedRun], None]) -> None:
        for i, run in list(self._runs.items()):
            try:
                call(run)
            except (
                Exception,
                SystemExit,
            ) as error:  # whatever a tracker raises must not lose the run
                del self._runs[i]
                self._notes.append(
                    f"tracker '{self._trackers[i].name}' failed and was not called again: {_error_text(error)}"
                )


def _log(run: TrackedRun, metrics: Mapping[str, float], step: int | None) -> None:
    run.log(metrics, step)


def _error_text(error: BaseException) -> str:
    name, message = type(error).__name__, brief(error)
    return name if message == name else f"{name}: {message}"


@contextmanager
def tracked(manager: pluggy.PluginManager, trackers: Sequence[Tracker], notes: list[str]) -> Iterator[None]:
    """Inside the block the trackers follow the hooks of `manager`. Failures of theirs are added to `notes`."""
    tracking = Tracking(trackers, notes)
    manager.register(tracking)
    try:
        yield
    except BaseException as error:
        tracking.abandon(error)
        raise
    finally:
        manager.unregister(tracking)
