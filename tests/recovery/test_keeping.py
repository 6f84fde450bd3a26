"""What a training has done is not lost before the run is done: its states go last, and damaged ones stop nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import swm
from swm.checkpoint import saving as checkpoint
from swm.errors import CheckpointError
from swm.files.scratch import all_scratch_folders, clear_all_dead
from swm.interfaces.progress import Silent, Task
from swm.interfaces.recovery import RecoveryContext
from swm.processes.signals import Stopped
from swm.recovery.full import Full
from swm.run.pipeline import CompressionPipeline
from swm.run.planning import StagePlanner
from swm.training.state import saved_states
from swm.training.state_folder import locked_folder, remove_training

STEPS = 6


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that were done."""
    done: list[int] = []
    real = StagePlanner._recovery

    def watched(self: Any, index: int, recovery: Any) -> RecoveryContext:
        context = real(self, index, recovery)
        context.step_done = lambda step, loss: done.append(step)
        return context

    monkeypatch.setattr(StagePlanner, "_recovery", watched)
    return done


@pytest.fixture
def go(run, quick: dict[str, Any], steps: list[int], tmp_path: Path) -> Callable[..., swm.RunResult]:
    training = {**quick, "data": quick["data"].spec(), "steps": STEPS, "save_every": 2}

    def start(name: str, **more: Any) -> swm.RunResult:
        steps.clear()
        measures = {"perplexity": {"text": "python-docs", "seq_len": 16, "max_tokens": 64}}
        result: swm.RunResult = run(
            {"recover": {"name": "full", **training, **more}}, output=str(tmp_path / name), evaluate=measures
        )
        return result

    return start


def kept(cache: Path) -> list[Path]:
    return [state for folder in (cache / "recovery").glob("*/*") for state in saved_states(folder)]


@pytest.mark.parametrize(
    ("culprit", "error"),
    [
        ("swm.measure.evaluator.Evaluator.measure", KeyboardInterrupt()),
        ("swm.checkpoint.saving.save", CheckpointError("the saved model is not the one in memory")),
        ("swm.checkpoint.saving.verify", OSError(28, "No space left on device")),
        ("swm.checkpoint.saving.into_place", Stopped("SIGTERM")),
    ],
)
@pytest.mark.parametrize("more", [{}, {"held_out": 1, "evaluate_every": 2}], ids=["last weights", "best weights"])
def test_what_fails_after_the_training_does_not_lose_it(
    go, steps: list[int], cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, culprit: str, error, more
) -> None:
    monkeypatch.setattr(checkpoint, "verify", lambda *args, **kwargs: {"max_abs_difference": 0.0})
    whole = go("whole", **more)
    assert kept(cache) == []
    with monkeypatch.context() as patch:

        def fails(*args: Any, **kwargs: Any) -> Any:
            if steps:
                raise error
            return iter(())

        patch.setattr(culprit, fails)
        with pytest.raises(CheckpointError if isinstance(error, OSError) else type(error)):
            go("out", **more)
    assert steps == list(range(1, STEPS + 1))
    assert not (tmp_path / "out").exists()
    again = go("out", **more)
    assert steps == []
    assert again.report == whole.report
    for name in ("model.safetensors", "report.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert list((cache / "recovery").iterdir()) == []


def test_any_error_in_the_training_keeps_what_was_saved(
    go, steps: list[int], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "verify", lambda *args, **kwargs: {"max_abs_difference": 0.0})
    with monkeypatch.context() as patch:
        real = torch.optim.AdamW.step

        def fails(self: Any) -> Any:
            if len(steps) == 5:
                raise RuntimeError("CUDA error: out of memory")
            return real(self)

        patch.setattr(torch.optim.AdamW, "step", fails)
        with pytest.raises(RuntimeError):
            go("out")
    assert [state.name for state in kept(cache)] == ["step-4", "step-0"]
    go("out")
    assert steps == [5, 6]


@pytest.mark.parametrize(("broken", "first"), [(["step-4"], 1), (["step-4", "step-0"], 1), (["step-0"], 5)])
def test_a_damaged_state_is_told_and_the_training_done_again(
    go, steps: list[int], cache: Path, monkeypatch: pytest.MonkeyPatch, broken: list[str], first: int
) -> None:
    monkeypatch.setattr(checkpoint, "verify", lambda *args, **kwargs: {"max_abs_difference": 0.0})
    whole = go("whole")
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", lambda self: 1 / 0 if len(steps) == 4 else self.real())
        patch.setattr(torch.optim.AdamW, "real", _step_of_adamw, raising=False)
        with pytest.raises(ZeroDivisionError):
            go("out")
    for state in kept(cache):
        if state.name in broken:
            (state / "state.safetensors").write_bytes(b"gone")
    again = go("out")
    assert steps[0] == first
    assert len(again.report["notes"]) == len(whole.report["notes"]) + len(broken)
    assert "was damaged and is not used" in again.report["notes"][-1]
    assert all(torch.equal(p, q) for p, q in zip(again.model.parameters(), whole.model.parameters(), strict=True))


_step_of_adamw = torch.optim.AdamW.step


class Labels(Silent):
    """Writes down what is told."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.told = threading.Event()

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Task]:
        self.found.append(label)
        self.told.set()
        with super().task(label, total) as task:
            yield task


def test_a_second_run_of_one_training_waits_and_says_so(tmp_path: Path) -> None:
    folder, labels, order = tmp_path / "recovery" / "key", Labels(), []

    def second() -> None:
        with locked_folder(folder, labels):
            order.append("second")

    with locked_folder(folder, Silent()):
        folder.mkdir()
        waiting = threading.Thread(target=second)
        waiting.start()
        assert labels.told.wait(20)
        # What the other one needs is not removed.
        remove_training(folder)
        assert folder.is_dir()
        order.append("first")
    waiting.join(20)
    assert order == ["first", "second"]
    assert labels.found == ["another run does this very training; wait for it"]
    remove_training(folder)
    assert list(folder.parent.iterdir()) == []


def test_a_plan_keeps_no_state(llama_folder: Path, quick: dict[str, Any], cache: Path) -> None:
    training = Full(**{**quick, "steps": 2})
    recipe = {"model": str(llama_folder), "calibration": {"text": "python-docs", "samples": 2, "seq_len": 16}}
    stages = [{"recover": training.spec()}, {"depth": {"pruner": "last", "target": {"layers": 1}}}]
    from swm.plugins.loading import load_plugins
    from swm.recipe.building import build_recipe

    plugins = load_plugins()
    CompressionPipeline(build_recipe({**recipe, "stages": stages}, plugins), plugins).plan()
    assert list((cache / "recovery").iterdir()) == []


@pytest.mark.parametrize("where", ["swm cache clear", "the next training"])
def test_states_whose_removal_was_killed_do_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("SWM_CACHE", str(tmp_path))
    (tmp_path / "recovery" / "abc" / "step-3").mkdir(parents=True)
    with monkeypatch.context() as killed:
        killed.setattr("swm.files.scratch.settle", lambda folder: None)
        remove_training(tmp_path / "recovery" / "abc")
    assert not (tmp_path / "recovery" / "abc").exists()
    assert [alive for _, alive in all_scratch_folders()] == [False]
    if where == "swm cache clear":
        clear_all_dead()
    else:
        with locked_folder(tmp_path / "recovery" / "other", Silent()):
            pass
    assert not list((tmp_path / "recovery").iterdir())
