"""The `ray` executor on a real local cluster: workers die, and nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slow_pruner import SLOW

from swm.builtin.executors.ray import Ray
from swm.errors import RecipeError
from swm.study.worker import carry_out

pytestmark = pytest.mark.ray

# A token that some earlier cluster of this user left in the home folder is not this cluster's.
OPEN = {"RAY_AUTH_MODE": "disabled"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of this machine with two workers."""
    pytest.importorskip("ray")
    ray = str(Path(sys.executable).with_name("ray"))
    environment = {**os.environ, **OPEN, "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    subprocess.run([ray, "stop", "--force"], capture_output=True, timeout=120)
    head = [ray, "start", "--head", "--port=6399", "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats"]
    subprocess.run(head, check=True, capture_output=True, timeout=300, env=environment)
    yield "127.0.0.1:6399"
    subprocess.run([ray, "stop", "--force"], capture_output=True, timeout=120)


@pytest.mark.slow
def test_a_worker_is_killed_and_nothing_is_lost_or_doubled(cluster: str, write: Any, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "seen").mkdir()
    slow = {"name": "slow", "folder": f"in:{tmp_path / 'seen'}"}
    write(
        recipe={"plugins": ["slow.py"]},
        executor={"name": "ray", "address": cluster, "cpus": 1},
        grid={"stages.0.depth.pruner": {str(i): {**slow, "number": i} for i in range(4)}},
        baselines=False,
    )
    command = [sys.executable, "-m", "swm", "study", "run", "study.yaml", "-o", "out", "--quiet"]
    environment = {**os.environ, **OPEN, "HF_HUB_OFFLINE": "1"}
    with (tmp_path / "log").open("w") as log:
        study = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        end = time.monotonic() + 240
        while not list((tmp_path / "seen").iterdir()):
            assert time.monotonic() < end, (tmp_path / "log").read_text()
            assert study.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        [first, *_] = (tmp_path / "seen").iterdir()
        number, _, victim = first.name.partition("-")
        os.kill(int(victim), signal.SIGKILL)
        assert study.wait(timeout=400) == 0, (tmp_path / "log").read_text()
    rows = [json.loads(line) for line in (tmp_path / "out" / "runs.jsonl").read_text().splitlines()]
    assert sorted(row["name"] for row in rows) == ["0", "1", "2", "3", "dense"]
    assert {row["state"] for row in rows} == {"done"}
    # The run of the dead worker was begun twice, by two processes, and has one row.
    assert len([file for file in (tmp_path / "seen").iterdir() if file.name.startswith(f"{number}-")]) == 2
    assert len(list((tmp_path / "seen").iterdir())) >= 5
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 5


def test_a_cluster_that_is_not_there_is_told() -> None:
    pytest.importorskip("ray")
    found = pytest.raises(RecipeError, match=r"executor.address: no Ray cluster at '127.0.0.1:6'")
    with found, Ray("127.0.0.1:6").open(carry_out):
        pass


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"executor 'ray' needs the package ray: pip install 'swm-pruning\[ray\]'"):
        Ray().check()
