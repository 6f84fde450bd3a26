from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pluggy
import pytest

from swm.errors import RecipeError
from swm.interfaces.tracker import Flat, TrackedRun, Tracker
from swm.plugins import hookspecs
from swm.report.flatten import flat, numbers
from swm.run.tracking import tracked


@dataclass(frozen=True)
class Diary(Tracker):
    """Writes every call into a list, and breaks where it is told to."""

    name: ClassVar[str] = "diary"

    calls: list[Any] = field(default_factory=list)
    breaks: str = ""

    def check(self) -> None:
        pass

    def start(self, parameters: Flat) -> TrackedRun:
        if self.breaks == "start":
            raise ConnectionError("nobody there\nsecond line")
        self.calls.append(("start", dict(parameters)))
        return _Page(self.calls, self.breaks)


@dataclass
class _Page(TrackedRun):
    calls: list[Any]
    breaks: str

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self.breaks == "log":
            raise ConnectionError("nobody there")
        self.calls.append((dict(metrics), step))

    def finish(self, report: Mapping[str, Any]) -> None:
        if self.breaks == "finish":
            raise OSError
        self.calls.append(("finish", report["seed"]))

    def fail(self, why: str) -> None:
        self.calls.append(("fail", why))


class _Stage:
    name = "recover"


@pytest.fixture
def manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("swm")
    manager.add_hookspecs(hookspecs)
    return manager


REPORT = {"seed": 3, "compressed": {"parameters": 60}, "achieved": {"ratio": 0.4}, "notes": []}


def _whole_run(manager: pluggy.PluginManager) -> None:
    hook = manager.hook
    hook.swm_run_started(recipe={"model": "tiny", "stages": [{"depth": {"target": {"ratio": 0.4}}}]})
    hook.swm_measured(which="dense", metrics={"perplexity": {"value": 9.0, "standard_error": 0.5}})
    hook.swm_stage_started(index=0, stage=_Stage())
    hook.swm_training_step(stage_index=0, step=5, loss=2.5)
    hook.swm_stage_finished(index=0, stage=_Stage(), facts={"steps": 5, "losses": [[5, 2.5]]})
    hook.swm_run_finished(report=REPORT)


def test_a_tracker_is_told_of_the_whole_run(manager: pluggy.PluginManager) -> None:
    diary, notes = Diary(), list[str]()
    with tracked(manager, [diary], notes):
        _whole_run(manager)
    assert diary.calls == [
        ("start", {"model": "tiny", "stages.0.depth.target.ratio": 0.4}),
        ({"dense/perplexity": 9.0, "dense/perplexity/standard_error": 0.5}, None),
        ({"0-recover/loss": 2.5}, 5),
        ({"0-recover/steps": 5}, None),
        ({"compressed/parameters": 60, "achieved/ratio": 0.4}, None),
        ("finish", 3),
    ]
    assert notes == []


def test_trackers_are_forgotten_after_the_run(manager: pluggy.PluginManager) -> None:
    diary = Diary()
    with tracked(manager, [diary], []):
        pass
    _whole_run(manager)
    assert diary.calls == []


@pytest.mark.parametrize(("breaks", "error"), [("log", "ConnectionError: nobody there"), ("finish", "OSError")])
def test_a_tracker_that_breaks_becomes_one_note_and_the_others_go_on(
    manager: pluggy.PluginManager, breaks: str, error: str
) -> None:
    broken, healthy, notes = Diary(breaks=breaks), Diary(), list[str]()
    with tracked(manager, [broken, healthy], notes):
        _whole_run(manager)
    assert notes == [f"tracker 'diary' failed and was not called again: {error}"]
    assert healthy.calls[-1] == ("finish", 3)


def test_a_tracker_that_cannot_start_ends_the_run_with_its_place(manager: pluggy.PluginManager) -> None:
    with pytest.raises(RecipeError) as caught, tracked(manager, [Diary(), Diary(breaks="start")], []):
        _whole_run(manager)
    assert str(caught.value) == "trackers.1: tracker 'diary' cannot start: ConnectionError: nobody there"


def test_trackers_learn_that_a_run_failed(manager: pluggy.PluginManager) -> None:
    diary = Diary()

    def interrupted() -> None:
        with tracked(manager, [diary], []):
            manager.hook.swm_run_started(recipe={})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert diary.calls[-1] == ("fail", "KeyboardInterrupt")


def test_parameters_are_flat() -> None:
    found = flat({"a": {"b": [1, "x"], "none": None}, "empty": [], "no": False})
    assert found == {"a.b.0": 1, "a.b.1": "x", "empty": "[]", "no": False}


def test_numbers_are_named_by_their_place_without_protocols_lists_and_flags() -> None:
    tasks = {"tasks": {"boolq": {"metric": "acc", "value": 0.5, "items": 20}}, "protocol": {"limit": 20}}
    assert numbers({"dense": {"tasks": tasks, "equal": True, "losses": [1.0]}}) == {
        "dense/tasks/boolq": 0.5,
        "dense/tasks/boolq/items": 20,
    }
