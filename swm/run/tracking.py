"""Tracking: passes what the life-cycle hooks report of a run to the trackers of its recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pluggy

from swm.errors import RecipeError, SwmError, at, brief
from swm.files.front_matter import CARD
from swm.files.private_paths import absolute_paths, without_private_paths
from swm.interfaces.tracker import Flat, TrackedRun, Tracker
from swm.plugins.hookspecs import hookimpl
from swm.report.flatten import flat, numbers
from swm.run.tracked_runs import TrackedRuns

# What a run leaves that people look at; `report.json` is what a tracker gets as data.
PAGES = ("report.html", CARD, "plan.yaml", "recipe.yaml")


class Tracking:
    """A plugin for the time of one run.

    A tracker that cannot start ends the run before it has cost anything. One that fails later is not called again, and
    `notes` says so: no tracker can lose a result.
    """

    def __init__(self, trackers: Sequence[Tracker], notes: list[str], output: Path | None = None) -> None:
        self._trackers = trackers
        self._notes = notes
        self._output = output
        self._runs: dict[int, TrackedRun] = {}
        self._groups: dict[int, str] = {}
        self._paths: Collection[str] = ()
        self._begun: TrackedRuns | None = None

    @hookimpl
    def swm_run_started(self, recipe: dict[str, Any]) -> None:
        if not self._trackers:
            return
        self._paths = absolute_paths(recipe).values()
        parameters = flat(without_private_paths(recipe, self._paths))
        self._begun = TrackedRuns(recipe)
        for i, tracker in enumerate(self._trackers):
            try:
                with at("trackers", i):
                    self._runs[i] = _begin(tracker, self._begun.ids.get(str(i)), parameters)
            except SwmError:
                raise
            except (Exception, SystemExit) as error:  # a tracker's library may raise anything
                message = f"tracker '{tracker.name}' cannot start: {_error_text(error)}"
                raise RecipeError(message, ("trackers", i)) from error
        self._begun.keep({str(i): run.id for i, run in self._runs.items() if run.id is not None})

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
        folder = self._output
        pages = [] if folder is None else [folder / name for name in PAGES if (folder / name).is_file()]
        self._each(lambda run: run.attach(pages))
        shown = without_private_paths(report, self._paths)
        self._each(lambda run: run.finish(shown))
        self._end(done=True)

    def links(self) -> dict[str, str]:
        """Where people find the run in each tracker that follows it, by the tracker's name."""
        links: dict[str, str] = {}
        for i, run in self._runs.items():
            name = self._trackers[i].name
            if run.link is not None:
                links[name if name not in links else f"{name} ({i})"] = run.link
        shown: dict[str, str] = without_private_paths(links, self._paths)
        return shown

    def abandon(self, error: BaseException) -> None:
        """Report what ended the run to the trackers that still follow it: an error, or a signal."""
        why = _error_text(error)
        stopped = isinstance(error, KeyboardInterrupt)
        self._each(lambda run: run.stop(why) if stopped else run.fail(why))
        self._end(done=False)

    def _end(self, done: bool) -> None:
        self._runs.clear()
        if self._begun is not None:
            self._begun.close(done)

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


def _begin(tracker: Tracker, earlier: str | None, parameters: Flat) -> TrackedRun:
    """Go on with the run of that id where there is one and the tracker still can; else start one."""
    if earlier is not None:
        with contextlib.suppress(Exception, SystemExit):  # its run may have been deleted
            return tracker.resume(earlier, parameters)
    return tracker.start(parameters)


def _log(run: TrackedRun, metrics: Mapping[str, float], step: int | None) -> None:
    run.log(metrics, step)


def _error_text(error: BaseException) -> str:
    name, message = type(error).__name__, brief(error)
    return name if message == name else f"{name}: {message}"


@contextmanager
def tracked(
    manager: pluggy.PluginManager, trackers: Sequence[Tracker], notes: list[str], output: Path | None = None
) -> Iterator[Tracking]:
    """Inside the block the trackers follow the hooks of `manager`.

    Args:
        manager: Calls the hooks.
        trackers: The trackers of the recipe.
        notes: Gets a sentence for each tracker that failed.
        output: The folder that the run leaves, if it leaves one.

    Returns:
        What follows the run.

    Raises:
        RecipeError: A tracker cannot start.
    """
    tracking = Tracking(trackers, notes, output)
    manager.register(tracking)
    try:
        yield tracking
    except BaseException as error:
        tracking.abandon(error)
        raise
    finally:
        manager.unregister(tracking)
