from __future__ import annotations

import importlib.util
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tracker_runs import FINISHED, follow

from swm.builtin.trackers.wandb import Wandb
from swm.errors import RecipeError

installed = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")

# The file is a log of LevelDB: blocks of 32 KiB, in them pieces of records, each after its length and kind.
READ = """
import json, struct, sys
from wandb.proto import wandb_internal_pb2

BLOCK, FULL, LAST = 2**15, 1, 4
content, at, record, records = open(sys.argv[1], "rb").read(), 7, b"", []
while at + 7 <= len(content):
    if BLOCK - at % BLOCK < 7:
        at += BLOCK - at % BLOCK
        continue
    length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
    record += content[at + 7 : at + 7 + length]
    at += 7 + length
    if kind in (FULL, LAST):
        records.append(record)
        record = b""
config, history, files, axes, codes, ids = {}, [], [], {}, [], []
for data in records:
    record = wandb_internal_pb2.Record()
    record.ParseFromString(data)
    kind = record.WhichOneof("record_type")
    if kind == "run":
        ids.append(record.run.run_id)
        config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
    elif kind == "history":
        items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        history.append({key: value for key, value in items.items() if not key.startswith("_")})
    elif kind == "artifact":
        files += [entry.path for entry in record.artifact.manifest.contents]
    elif kind == "metric" and record.metric.step_metric:
        axes[record.metric.name] = record.metric.step_metric
    elif kind == "exit":
        codes.append(record.exit.exit_code)
print(json.dumps([ids, config, history, files, axes, codes]))
"""


def _read(folder: Path) -> list[Any]:
    [file] = folder.glob("run-*.wandb")
    done = subprocess.run([sys.executable, "-c", READ, str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    records: list[Any] = json.loads(done.stdout)
    return records


@installed
@pytest.mark.slow
def test_a_killed_run_goes_on_under_its_id(tmp_path: Path) -> None:
    variables = {"WANDB_DATA_DIR": str(tmp_path), "WANDB_CACHE_DIR": str(tmp_path), "WANDB_ERROR_REPORTING": "false"}
    spec = {"name": "wandb", "project": "tests", "run": "first", "mode": "offline"}
    number, link = follow(spec, tmp_path, "run.stop('Stopped: SIGTERM')", **variables)
    assert link == f"offline run '{number}' of project 'tests'; wandb sync sends it"
    assert follow(spec, tmp_path, FINISHED, number, **variables)[0] == number
    first, second = sorted((tmp_path / "wandb").glob("offline-run-*"), key=os.path.getmtime)

    ids, config, history, files, axes, codes = _read(first)
    assert set(ids) == {number}
    assert config["stages.0.depth.target.ratio"] == 0.4
    assert history == [
        {"dense/perplexity": 9.0, "dense/perplexity/standard_error": 0.5},
        {"1-recover/loss": 2.5, "1-recover/step": 5},
        {"2-recover/loss": 3.5, "2-recover/step": 1},
    ]
    assert axes == {"1-recover/loss": "1-recover/step", "2-recover/loss": "2-recover/step"}
    assert files == []
    assert codes == [255]

    ids, _, history, files, _, codes = _read(second)
    assert set(ids) == {number}
    assert history == [{"1-recover/loss": 1.5, "1-recover/step": 10}]
    assert sorted(files) == ["report.html", "report.json"]
    assert codes == [0]


@installed
@pytest.mark.slow
def test_without_a_login_it_says_so_and_asks_nothing(tmp_path: Path) -> None:
    code = "from swm.builtin.trackers.wandb import Wandb; Wandb(mode='online').start({})"
    variables = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    variables |= {"HOME": str(tmp_path), "WANDB_ERROR_REPORTING": "false"}
    # Of a terminal it would ask.
    terminal, other = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, cwd=tmp_path, stdin=other, stderr=other, timeout=120
    )
    said = os.read(terminal, 100_000).decode()
    os.close(terminal)
    os.close(other)
    assert done.returncode == 1
    assert "wandb login" in said


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"tracker 'wandb' needs .* pip install 'swm-pruning\[wandb\]'"):
        Wandb().check()
