from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tracker_runs import FINISHED, follow

from swm.builtin.trackers.tensorboard import Tensorboard
from swm.errors import RecipeError

installed = pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")

READ = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1], {"tensors": 0})
events.Reload()
tags = events.Tags()
scalars = {tag: [[each.step, each.value] for each in events.Scalars(tag)] for tag in tags["scalars"]}
texts = {tag: [each.tensor_proto.string_val[0].decode() for each in events.Tensors(tag)] for tag in tags["tensors"]}
print(json.dumps({"scalars": scalars, "texts": texts, "plugins": sorted(events.summary_metadata)}))
"""


def _read(folder: Path) -> dict[str, Any]:
    """What TensorBoard itself reads of a run."""
    done = subprocess.run([sys.executable, "-c", READ, str(folder)], capture_output=True, text=True, check=True)
    events: dict[str, Any] = json.loads(done.stdout)
    return events


@installed
@pytest.mark.slow
def test_a_killed_run_goes_on_in_its_folder(tmp_path: Path) -> None:
    spec = {"name": "tensorboard", "folder": str(tmp_path / "runs"), "run": "first"}
    number, link = follow(spec, tmp_path, "run.stop('Stopped: SIGTERM')")
    assert number == str(tmp_path / "runs" / "first")
    assert link == "run 'first' in runs"
    assert follow(spec, tmp_path, FINISHED, number)[0] == number
    assert [each.name for each in (tmp_path / "runs").iterdir()] == ["first"]
    events = _read(tmp_path / "runs" / "first")
    assert events["scalars"]["dense/perplexity"][0] == [0, 9.0]
    assert events["scalars"]["1-recover/loss"][:2] == [[5, 2.5], [10, 1.5]]
    assert events["scalars"]["2-recover/loss"] == [[1, 3.5]]
    assert events["texts"]["state/text_summary"] == ["stopped: Stopped: SIGTERM", "finished"]
    assert "| stages.0.depth.target.ratio | 0.4 |" in events["texts"]["recipe/text_summary"][0]
    assert "größer" in events["texts"]["report.json/text_summary"][0]
    assert "_hparams_/session_start_info" in events["plugins"]


@installed
@pytest.mark.slow
def test_two_runs_of_one_name_have_folders_of_their_own(tmp_path: Path) -> None:
    tracker = Tensorboard(str(tmp_path), "first")
    runs = [tracker.start({}) for _ in range(2)]
    assert [Path(run.id or "").name for run in runs] == ["first", "first-2"]
    for run in runs:
        run.fail("ModelError: no")
    assert _read(tmp_path / "first-2")["texts"]["state/text_summary"] == ["failed: ModelError: no"]


def test_what_is_wrong_is_told_beforehand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(RecipeError, match=r"folder: .*file is no folder"):
        Tensorboard(str(tmp_path / "file")).check()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"pip install 'swm-pruning\[tensorboard\]'"):
        Tensorboard().check()
