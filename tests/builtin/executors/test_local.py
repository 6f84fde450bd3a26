"""Processes of `local` die, and no other run with them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swm.builtin.executors.local import Local
from swm.errors import WorkerDiedError
from swm.files.cache_folder import cache_folder
from swm.files.scratch import all_scratch_folders, scratch
from swm.interfaces.executor import Job, Pool, Row


def _work(job: Job) -> Row:
    """Dies as often as the job says, then says which process it is."""
    tried = Path(job["folder"]) / job["id"]
    count = len(tried.read_text()) if tried.exists() else 0
    tried.write_text("x" * (count + 1))
    if count < job.get("deaths", 0):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"pid": os.getpid(), "blocked": [int(kind) for kind in signal.pthread_sigmask(signal.SIG_BLOCK, [])]}


def _hang(job: Job) -> Row:
    """Does not end when it is told to."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with scratch(Path(job["folder"]), indexed=True) as place:
        (place.new / "half").write_text("half")
        time.sleep(100)
    return {}


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Local(threads=1).open(_work) as opened:
        yield opened


def test_a_process_that_died_between_two_runs_stops_nothing(pool: Pool, tmp_path: Path) -> None:
    first = pool.submit({"id": "a", "folder": str(tmp_path)}).result(timeout=120)["pid"]
    os.kill(first, signal.SIGKILL)
    second = pool.submit({"id": "b", "folder": str(tmp_path)}).result(timeout=120)["pid"]
    assert second != first
    # Once the death is known, the pool itself refuses what is submitted.
    os.kill(second, signal.SIGKILL)
    time.sleep(0.5)
    assert pool.submit({"id": "c", "folder": str(tmp_path)}).result(timeout=120)["pid"] != second


def test_a_run_is_tried_once_more_after_a_death(pool: Pool, tmp_path: Path) -> None:
    job = {"id": "a", "folder": str(tmp_path), "deaths": 1}
    assert "pid" in pool.submit(job).result(timeout=120)
    with pytest.raises(WorkerDiedError, match="most often the memory ran out"):
        pool.submit({**job, "id": "b", "deaths": 9}).result(timeout=120)
    assert (tmp_path / "b").read_text() == "xx"
    assert "pid" in pool.submit({"id": "c", "folder": str(tmp_path)}).result(timeout=120)


def test_a_machine_that_starts_no_process_fails_the_run_alone(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr("swm.builtin.executors.local.ProcessPoolExecutor", full)
        with pytest.raises(WorkerDiedError, match="no process could be started for it: Cannot allocate memory"):
            pool.submit({"id": "a", "folder": str(tmp_path)}).result(timeout=120)
    assert "pid" in pool.submit({"id": "b", "folder": str(tmp_path)}).result(timeout=120)


def test_what_a_terminal_sends_to_all_is_for_the_first_process(pool: Pool, tmp_path: Path) -> None:
    # The first of them is started together with a process of Python's own.
    blocked = pool.submit({"id": "a", "folder": str(tmp_path)}).result(timeout=120)["blocked"]
    assert signal.SIGINT in blocked
    assert signal.SIGTERM not in blocked


def test_a_process_that_does_not_end_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swm.builtin.executors.local.PATIENCE", 0.5)
    monkeypatch.setenv("SWM_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(KeyboardInterrupt):
        _stop_while_hanging(work)
    assert list(work.iterdir()) == []
    assert list((cache_folder() / "scratch").iterdir()) == []


def _stop_while_hanging(work: Path) -> None:
    with Local(threads=1).open(_hang) as pool:
        pool.submit({"id": "a", "folder": str(work)})
        end = time.monotonic() + 120
        while not list(work.glob(".swm-scratch-*/new/half")):
            assert time.monotonic() < end
            time.sleep(0.02)
        assert len(all_scratch_folders()) == 1
        raise KeyboardInterrupt
