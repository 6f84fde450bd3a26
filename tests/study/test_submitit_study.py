"""A study whose runs are jobs of submitit, here processes of this machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from swm.study.studies import run_study


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="submitit is not installed")
def test_runs_are_jobs_that_are_submitted_once(write: Any, tmp_path: Path) -> None:
    executor = {"name": "submitit", "cluster": "local", "array_parallelism": 2}
    file = write(executor=executor, baselines=False)
    tally, results = run_study(file, tmp_path / "out")
    assert (tally.done, len(tally.failed)) == (3, 0)
    assert sorted(row["name"] for row in results.rows) == ["dense", "layers 1", "layers 2"]
    # Nothing is submitted again.
    jobs = {each: each.stat().st_mtime_ns for each in (tmp_path / "out" / "submitit").glob("*/job-id.txt")}
    assert len(jobs) == 3
    assert run_study(file, tmp_path / "out")[0].done == 3
    assert {each: each.stat().st_mtime_ns for each in jobs} == jobs
