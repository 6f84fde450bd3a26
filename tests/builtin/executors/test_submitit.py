"""The `submitit` executor on processes of this machine, which submitit starts as if they were jobs of a cluster."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swm.builtin.executors import swm_register
from swm.builtin.executors.submitit import Submitit
from swm.errors import RecipeError, WorkerDiedError
from swm.interfaces.executor import Job, Row
from swm.plugins.registry import Registry

installed = pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="submitit is not installed")

WORK = """
import json, os, signal, sys, time
from pathlib import Path

def work(job):
    folder = Path(job["folder"])
    tries = folder / f"{job['id']}-tries"
    with tries.open("a") as file:
        file.write(f"{os.getpid()} {os.getppid()}\\n")
    if job.get("says"):
        print("the last words\\x1b[2J", file=sys.stderr)
        os._exit(3)
    if job.get("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    if job.get("first_waits") and len(tries.read_text().splitlines()) == 1 or job.get("waits"):
        try:
            (folder / f"{job['id']}-waiting").touch()
            time.sleep(100)
        finally:
            (folder / f"{job['id']}-in-order").touch()
    return {"id": job["id"], "threads": os.environ["OMP_NUM_THREADS"], "cwd": os.getcwd(), "nan": float("nan")}
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Job], Row]]:
    """A function of a module that other processes find too."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "some_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"), prepend=os.pathsep)
    yield importlib.import_module("some_work").work
    del sys.modules["some_work"]


@pytest.fixture(params=["foreground", "background"])
def ground(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where the process runs: a shell makes what it starts in the background ignore SIGINT."""
    ignored = request.param == "background"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    yield
    assert (signal.getsignal(signal.SIGINT) is signal.SIG_IGN) is ignored
    signal.signal(signal.SIGINT, before)


def _local(**settings: Any) -> Submitit:
    return Submitit(cluster="local", **settings)


def _tries(folder: Path, job: str, count: int) -> list[list[int]]:
    """The processes that tried a job, each with the one that started it, once there are that many."""
    file, end = folder / f"{job}-tries", time.monotonic() + 60
    while not file.exists() or len(file.read_text().splitlines()) < count:
        assert time.monotonic() < end
        time.sleep(0.05)
    return [[int(number) for number in line.split()] for line in file.read_text().splitlines()]


def _wait_for(file: Path) -> None:
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


@installed
def test_jobs_leave_rows_in_folders_that_nobody_else_may_write(work: Any, tmp_path: Path) -> None:
    with _local(cpus_per_task=3, array_parallelism=2).open(work) as pool:
        assert pool.slots == 2
        futures = [pool.submit({"id": name, "folder": str(tmp_path)}) for name in ("a", "b")]
        rows = [future.result(timeout=60) for future in futures]
    assert [row["id"] for row in rows] == ["a", "b"]
    assert {row["threads"] for row in rows} == {"3"}
    assert {row["cwd"] for row in rows} == {os.getcwd()}
    assert rows[0]["nan"] != rows[0]["nan"]
    assert (tmp_path / "submitit").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "submitit" / "a").stat().st_mode & 0o777 == 0o700


@installed
def test_what_submitit_pickles_holds_a_command_and_is_not_loaded_here(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a pickle was loaded")

    monkeypatch.setattr("submitit.core.utils.pickle_load", refuse)
    with _local().open(work) as pool:
        pool.submit({"id": "a", "folder": str(tmp_path)}).result(timeout=60)
        [pickled] = (tmp_path / "submitit" / "a").glob("*_submitted.pkl")
    content = pickled.read_bytes()
    assert b"one_job.py" in content
    assert b"order.json" in content
    # By reference, not by its code.
    assert b"swm.builtin.executors.queued_command" in content
    assert b"some_work" not in content


@installed
@pytest.mark.slow
def test_a_job_that_died_says_so_with_the_end_of_its_log(work: Any, tmp_path: Path) -> None:
    with _local().open(work) as pool:
        dead = pool.submit({"id": "a", "folder": str(tmp_path), "says": True})
        killed = pool.submit({"id": "b", "folder": str(tmp_path), "dies": True})
        with pytest.raises(
            WorkerDiedError, match=r"(?s)left no row; its log submitit/a/\d+_0_log.out ends:.*last words"
        ):
            dead.result(timeout=60)
        with pytest.raises(WorkerDiedError, match="ended with exit code -9"):
            killed.result(timeout=60)
        assert pool.submit({"id": "a", "folder": str(tmp_path)}).result(timeout=60)["id"] == "a"


@installed
@pytest.mark.slow
@pytest.mark.usefixtures("ground")
def test_a_job_that_is_queued_again_stops_in_order_and_goes_on(work: Any, tmp_path: Path) -> None:
    with _local().open(work) as pool:
        future = pool.submit({"id": "a", "folder": str(tmp_path), "first_waits": True})
        [[_, submitits]] = _tries(tmp_path, "a", 1)
        _wait_for(tmp_path / "a-waiting")
        # What a cluster sends before it takes the machine away.
        os.kill(submitits, signal.SIGUSR2)
        assert future.result(timeout=60)["id"] == "a"
    assert (tmp_path / "a-in-order").exists()
    assert len(_tries(tmp_path, "a", 2)) == 2


@installed
@pytest.mark.slow
@pytest.mark.usefixtures("ground")
def test_a_job_that_ran_out_of_time_too_often_has_failed(work: Any, tmp_path: Path) -> None:
    with _local(retries=0, timeout_min=1).open(work) as pool:
        future = pool.submit({"id": "a", "folder": str(tmp_path), "waits": True})
        [[_, submitits]] = _tries(tmp_path, "a", 1)
        os.kill(submitits, signal.SIGUSR2)
        with pytest.raises(WorkerDiedError, match="timed-out too many times"):
            future.result(timeout=60)


@installed
@pytest.mark.slow
@pytest.mark.usefixtures("ground")
def test_what_ends_the_study_ends_its_jobs(work: Any, tmp_path: Path) -> None:
    def study() -> None:
        with _local().open(work) as pool:
            pool.submit({"id": "a", "folder": str(tmp_path), "waits": True})
            _tries(tmp_path, "a", 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study()
    [[process, submitits]] = _tries(tmp_path, "a", 1)
    end = time.monotonic() + 30
    while any(Path(f"/proc/{number}").exists() for number in (process, submitits)):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_without_submitit_or_slurm_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(RecipeError, match=r"executor 'submitit' needs .* pip install 'swm-pruning\[slurm\]'"):
            Submitit().check()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RecipeError, match=r"executor.cluster: no Slurm on this machine: sbatch, srun.*cluster: local"):
        Submitit().check()
    Submitit(cluster="local").check()


def test_its_fields_become_options_of_sbatch() -> None:
    registry = Registry()
    swm_register(lambda thing: registry.register(thing, "swm"))
    given = {
        "name": "submitit",
        "partition": "gpu",
        "gpus_per_node": 1,
        "mem_gb": 7.5,
        "setup": ["module load cuda"],
        "options": {"nodelist": "n1"},
    }
    parameters = registry.build("executor", given).parameters()
    assert parameters["slurm_partition"] == "gpu"
    assert parameters["slurm_account"] is None
    assert parameters["gpus_per_node"] == 1
    assert parameters["mem_gb"] == 7.5
    assert parameters["timeout_min"] == 240
    assert parameters["slurm_setup"] == ["export PYTHONSAFEPATH=1", "module load cuda"]
    assert parameters["slurm_additional_parameters"] == {"nodelist": "n1"}
    with pytest.raises(RecipeError, match="timeout_min"):
        registry.build("executor", {"name": "submitit", "timeout_min": 0})


def test_a_study_measures_speed_only_where_runs_do_not_share_a_machine() -> None:
    assert Submitit().at_once() is None
    assert _local(array_parallelism=4).at_once() == 4
