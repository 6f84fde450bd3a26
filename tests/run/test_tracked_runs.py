"""The next run of a recipe goes on in the trackers' runs of one that was killed or failed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pluggy
import pytest

from swm.cache.artifacts import artifacts
from swm.interfaces.tracker import Flat, TrackedRun, Tracker
from swm.plugins import hookspecs
from swm.run.tracked_runs import TrackedRuns
from swm.run.tracking import tracked

RECIPE = {"model": "tiny", "stages": []}


@dataclass(frozen=True)
class Ledger(Tracker):
    """Numbers its runs and writes every call into a list."""

    name: ClassVar[str] = "ledger"

    calls: list[Any] = field(default_factory=list)
    forgets: bool = False

    def check(self) -> None:
        pass

    def start(self, parameters: Flat) -> TrackedRun:
        self.calls.append("start")
        return _Line(self.calls, f"run-{self.calls.count('start')}")

    def resume(self, run: str, parameters: Flat) -> TrackedRun:
        if self.forgets:
            raise KeyError(run)
        self.calls.append(f"resume {run}")
        return _Line(self.calls, run)


@dataclass
class _Line(TrackedRun):
    calls: list[Any]
    id: str | None

    def __post_init__(self) -> None:
        self.link = f"line of {self.id} in /home/me/model"

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        pass

    def attach(self, files: Any) -> None:
        self.calls.append([file.name for file in files])

    def finish(self, report: Mapping[str, Any]) -> None:
        self.calls.append("finish")

    def fail(self, why: str) -> None:
        self.calls.append(f"fail: {why}")

    def stop(self, why: str) -> None:
        self.calls.append(f"stop: {why}")


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pluggy.PluginManager:
    monkeypatch.setenv("SWM_CACHE", str(tmp_path / "cache"))
    manager = pluggy.PluginManager("swm")
    manager.add_hookspecs(hookspecs)
    return manager


def _run(manager: pluggy.PluginManager, ledger: Ledger, error: BaseException | None = None, **recipe: Any) -> None:
    def run() -> None:
        with tracked(manager, [ledger], [], recipe.pop("folder", None)):
            manager.hook.swm_run_started(recipe={**RECIPE, **recipe})
            if error is not None:
                raise error
            manager.hook.swm_run_finished(report={"seed": 0})

    if error is None:
        run()
        return
    with pytest.raises(type(error)):
        run()


def test_a_run_goes_on_until_it_is_done(manager: pluggy.PluginManager) -> None:
    ledger = Ledger()
    _run(manager, ledger, KeyboardInterrupt())
    _run(manager, ledger, ValueError("no"))
    _run(manager, ledger)
    _run(manager, ledger)
    assert ledger.calls == [
        *("start", "stop: KeyboardInterrupt", "resume run-1", "fail: ValueError: no"),
        *("resume run-1", [], "finish", "start", [], "finish"),
    ]


def test_another_recipe_has_another_run(manager: pluggy.PluginManager) -> None:
    ledger = Ledger()
    _run(manager, ledger, KeyboardInterrupt())
    _run(manager, ledger, seed=2)
    assert "resume run-1" not in ledger.calls


def test_a_run_that_the_tracker_lost_starts_anew(manager: pluggy.PluginManager) -> None:
    ledger = Ledger(forgets=True)
    _run(manager, ledger, KeyboardInterrupt())
    _run(manager, ledger)
    assert ledger.calls == ["start", "stop: KeyboardInterrupt", "start", [], "finish"]


def test_what_is_kept_is_told_by_the_cache_and_goes_when_the_run_is_done(manager: pluggy.PluginManager) -> None:
    ledger = Ledger()
    _run(manager, ledger, KeyboardInterrupt())
    assert [entry.what for entry in artifacts()] == ["tracked-runs"]
    _run(manager, ledger)
    assert artifacts() == []


def test_two_runs_of_one_recipe_at_once_do_not_share_a_run(manager: pluggy.PluginManager) -> None:
    first = TrackedRuns(RECIPE)
    first.keep({"0": "run-1"})
    with multiprocessing.get_context("spawn").Pool(1) as other:
        assert other.apply(_ids_of_another_process) == {}
    first.close(done=False)
    assert TrackedRuns(RECIPE).ids == {"0": "run-1"}


def _ids_of_another_process() -> dict[str, str]:
    return TrackedRuns(RECIPE).ids


def test_trackers_get_the_pages_of_the_saved_folder_and_no_path_is_in_links(
    manager: pluggy.PluginManager, tmp_path: Path
) -> None:
    ledger = Ledger()
    for name in ("report.html", "plan.yaml", "timing.json", "model.safetensors"):
        (tmp_path / name).touch()
    with tracked(manager, [ledger], [], tmp_path) as tracking:
        manager.hook.swm_run_started(recipe={**RECIPE, "output": "/home/me/model"})
        assert tracking.links() == {"ledger": "line of run-1 in model"}
        manager.hook.swm_run_finished(report={"seed": 0})
    assert ["report.html", "plan.yaml"] in ledger.calls
