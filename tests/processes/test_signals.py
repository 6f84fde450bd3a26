"""A signal ends swm in order: one message, the exit code of the signal, no process and no scratch folder left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from swm.processes.signals import Stopped, stoppable

pytestmark = pytest.mark.slow

PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar
import os, pathlib, subprocess, sys, time
import swm
from swm.model.windows import windows_without

HERE = pathlib.Path(__file__).parent

def reached(moment):
    if moment == "MOMENT":
        (HERE / f"reached-{os.getpid()}").touch()
        time.sleep(100)

@dataclass(frozen=True)
class Slow(swm.DepthPruner):
    name: ClassVar[str] = "slow"
    number: int = 0

    def propose(self, context):
        reached("planning")
        return swm.DepthProposal(windows_without([1], context.layers))

@swm.hookimpl
def swm_register(register):
    register(Slow)

@swm.hookimpl
def swm_run_started(recipe):
    reached("started")

@swm.hookimpl
def swm_training_step(stage_index, step, loss):
    reached(f"step {step}")

@swm.hookimpl
def swm_measured(which, metrics):
    reached(f"measured {which}")
"""
RECIPE: dict[str, Any] = {
    "calibration": {"text": "python-docs", "samples": 2, "seq_len": 32},
    "stages": [{"depth": {"pruner": "slow", "target": {"layers": 1}}}],
    "evaluate": {"perplexity": {"text": "python-docs", "seq_len": 64, "max_tokens": 256}},
    "plugins": ["plugin.py"],
}
TRAINING = {"name": "full", "steps": 3, "batch": 1, "cutoff": 16, "data": "python-docs", "pieces": 4}


@pytest.fixture
def start(tmp_path: Path, stories: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts the command in a folder of its own, and returns when it is at the moment."""

    def started(moment: str, *arguments: str, count: int = 1, **files: Any) -> subprocess.Popen[str]:
        (tmp_path / "plugin.py").write_text(PLUGIN.replace("MOMENT", moment))
        for name, content in files.items():
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        environment = {**os.environ, "SWM_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "swm", *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        end = time.monotonic() + 300
        while len(list(tmp_path.glob(reached_by(moment)))) < count:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.02)
        return process

    return started


def reached_by(moment: str) -> str:
    """What tells that the moment has come."""
    return ".swm-scratch-*/new/**/*probe*.safetensors" if moment == "verifying" else "reached-*"


def ends(process: subprocess.Popen[str], kind: signal.Signals) -> None:
    """It ends as the signal says, with one message, and leaves no process of its session."""
    said = process.communicate(timeout=60)
    assert said == ("", f"stopped by {kind.name}; nothing was left half-written, and what is saved is found again\n")
    assert process.returncode == 128 + kind
    end = time.monotonic() + 30
    while _session(process.pid):
        assert time.monotonic() < end, _session(process.pid)
        time.sleep(0.1)


def _session(number: int) -> list[str]:
    """The processes of a session that still run."""
    found = subprocess.run(["ps", "-o", "stat=,args=", "-s", str(number)], capture_output=True, text=True).stdout
    return [line for line in found.splitlines() if not line.startswith("Z")]


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".swm-scratch*"))


@pytest.mark.parametrize(
    ("moment", "kind"),
    [
        ("started", signal.SIGINT),
        ("planning", signal.SIGHUP),
        ("step 2", signal.SIGTERM),
        ("measured compressed", signal.SIGINT),
        ("verifying", signal.SIGTERM),
    ],
)
def test_a_run_is_stopped(start, stories: Path, tmp_path: Path, moment: str, kind: signal.Signals) -> None:
    stages = [{"depth": {"pruner": "slow", "target": {"layers": 1}}}, {"recover": TRAINING}]
    recipe = {**RECIPE, "model": str(stories), "stages": stages, "output": "out"}
    process = start(moment, "compress", "recipe.yaml", "-q", recipe=recipe)
    process.send_signal(kind)
    # One that comes again does not disturb the clearing.
    process.send_signal(kind)
    ends(process, kind)
    assert not (tmp_path / "out").exists()
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("executor", "everyone", "kind"),
    [
        ("serial", False, signal.SIGTERM),
        ({"name": "local", "threads": 1}, False, signal.SIGINT),
        ({"name": "local", "threads": 1, "workers": 2}, True, signal.SIGINT),
        ({"name": "local", "threads": 1, "workers": 2}, False, signal.SIGTERM),
    ],
)
def test_a_study_is_stopped_with_its_workers(
    start, stories: Path, tmp_path: Path, executor: Any, everyone: bool, kind: signal.Signals
) -> None:
    study = {
        "recipe": {**RECIPE, "model": str(stories)},
        "executor": executor,
        "grid": {"stages.0.depth.pruner": {str(i): {"name": "slow", "number": i} for i in range(3)}},
        "baselines": False,
    }
    workers = executor.get("workers", 1) if isinstance(executor, dict) else 1
    process = start("planning", "study", "run", "study.yaml", "-o", "out", "-q", count=workers, study=study)
    # A terminal tells all of its processes.
    os.killpg(process.pid, kind) if everyone else process.send_signal(kind)
    ends(process, kind)
    assert left(tmp_path) == []


def test_what_was_ignored_stays_ignored_and_what_was_set_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its end does not wait for this process.
    monkeypatch.setattr("swm.processes.signals.threading.Timer", lambda *args: SimpleNamespace(start=lambda: None))
    before = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable() as stopping:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stopping.number is None
            with pytest.raises(Stopped, match="SIGTERM"):
                signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            assert stopping.number == signal.SIGTERM
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, old)
    assert [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)] == before
