"""A study on a real Slurm cluster of one node, which the tests install and start on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from slow_pruner import SLOW
from slurm_cluster import slurm_cluster

# Slurm starts a job that it took back only after two minutes.
pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """The variables by which a cluster of this machine is found."""
    pytest.importorskip("submitit")
    with slurm_cluster() as variables:
        yield variables


@dataclass
class Run:
    """`swm study run` under way on the cluster."""

    process: subprocess.Popen[bytes]
    folder: Path
    variables: dict[str, str]

    def slurm(self, *command: str) -> list[str]:
        """The words that a command of Slurm prints."""
        done = subprocess.run(command, env={**os.environ, **self.variables}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    def queue(self) -> list[str]:
        """The ids of all jobs that Slurm has in its queue or running."""
        return self.slurm("squeue", "--noheader", "--format", "%i")

    def begun(self, count: int = 1) -> list[str]:
        """The numbers and processes of the pruners that have begun, once there are so many."""
        end = time.monotonic() + 400
        while len(self.seen()) < count:
            assert time.monotonic() < end, self.log()
            assert self.process.poll() is None, self.log()
            time.sleep(0.1)
        return self.seen()

    def seen(self) -> list[str]:
        return sorted(file.name for file in (self.folder / "seen").glob("*-*"))

    def go(self) -> None:
        """Let all pruners finish."""
        (self.folder / "seen" / "go").touch()

    def jobs(self) -> dict[str, str]:
        """The Slurm jobs of the study's runs, by the run's id."""
        return {file.parent.name: file.read_text() for file in self.folder.glob("out/submitit/*/job-id.txt")}

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "out" / "runs.jsonl").read_text().splitlines()]

    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture
def study(cluster: dict[str, str], write: Any, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts a study of so many slow runs on the cluster; what still runs at the end is killed."""
    started: list[Run] = []

    def start(count: int = 3, **settings: Any) -> Run:
        (tmp_path / "slow.py").write_text(SLOW)
        (tmp_path / "seen").mkdir(exist_ok=True)
        slow = {"name": "slow", "waits": True, "folder": f"in:{tmp_path / 'seen'}"}
        write(
            recipe={"plugins": ["slow.py"]},
            executor={"name": "submitit", "partition": "main", "timeout_min": 20, "array_parallelism": 2, **settings},
            grid={"stages.0.depth.pruner": {str(i): {**slow, "number": i} for i in range(count)}},
            baselines=False,
        )
        command = [sys.executable, "-m", "swm", "study", "run", "study.yaml", "-o", "out", "--quiet"]
        variables = {**os.environ, **cluster, "HF_HUB_OFFLINE": "1"}
        with (tmp_path / "log").open("a") as log:
            process = subprocess.Popen(command, cwd=tmp_path, env=variables, stdout=log, stderr=log)
        started.append(Run(process, tmp_path, cluster))
        return started[-1]

    yield start
    for run in started:
        run.process.kill()
        run.process.wait()
        for job in run.queue():
            run.slurm("scancel", job)


def test_jobs_that_were_queued_again_go_on_and_nothing_is_lost_or_doubled(study: Callable[..., Run]) -> None:
    run = study(3)
    run.begun(2)
    # Slurm takes one of the two back, and submitit is told of the other's end.
    first, second = [job for name, job in run.jobs().items() if not name.startswith("dense")]
    run.slurm("scontrol", "requeue", first)
    run.slurm("scancel", "--signal=USR2", second)
    run.begun(4)
    run.go()
    assert run.process.wait(timeout=400) == 0, run.log()
    assert sorted(row["name"] for row in run.rows()) == ["0", "1", "2", "dense"]
    assert {row["state"] for row in run.rows()} == {"done"}
    # Each of the two was begun twice.
    assert len(run.seen()) == 5
    assert run.queue() == []


def test_a_job_that_was_killed_fails_its_row_with_the_end_of_its_log(study: Callable[..., Run]) -> None:
    run = study(1)
    [name] = run.begun()
    os.kill(int(name.partition("-")[2]), signal.SIGKILL)
    assert run.process.wait(timeout=300) == 1, run.log()
    [failed] = [row for row in run.rows() if row["state"] == "failed"]
    assert "ended as FAILED" in failed["error"]
    assert "the process of the run ended with exit code -9" in failed["error"]
    assert f"submitit/{failed['id']}/{run.jobs()[failed['id']]}_0_log.out" in failed["error"]


def test_ctrl_c_cancels_what_was_submitted(study: Callable[..., Run]) -> None:
    run = study(3)
    run.begun(2)
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(timeout=300) == 130, run.log()
    end = time.monotonic() + 60
    while run.queue():
        assert time.monotonic() < end
        time.sleep(0.5)
    assert [row["name"] for row in run.rows()] == ["dense"]


def test_a_study_that_was_killed_finds_its_jobs_in_the_queue(study: Callable[..., Run]) -> None:
    run = study(2)
    run.begun(2)
    run.process.kill()
    run.process.wait()
    jobs = run.jobs()
    assert set(run.queue()) <= set(jobs.values())
    again = study(2)
    time.sleep(30)
    again.go()
    assert again.process.wait(timeout=300) == 0, again.log()
    assert again.jobs() == jobs
    assert len(run.seen()) == 2
    assert {row["state"] for row in again.rows()} == {"done"}


def test_what_slurm_refuses_is_told_before_anything_runs(study: Callable[..., Run]) -> None:
    run = study(1, partition="gpus")
    assert run.process.wait(timeout=120) == 2, run.log()
    assert "executor: no job could be submitted: sbatch: error: invalid partition specified: gpus" in run.log()
