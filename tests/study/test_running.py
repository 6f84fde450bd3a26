"""Studies survive kills, full disks and runs that fail; nothing is run twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

import swm.study.journal
from swm.builtin.executors.local import Local
from swm.errors import StudyError, SwmError
from swm.files.scratch import scratch
from swm.interfaces.executor import Job, Pool, Row
from swm.interfaces.progress import Silent
from swm.study import worker
from swm.study.journal import Journal, open_journal
from swm.study.run_sources import RunSource
from swm.study.running import StudyRunner
from swm.study.runs import StudyRun
from swm.study.studies import described, run_study

SAID = "depth 'odd': ZeroDivisionError: {} (odd.py, line {})"
CRASHES = """
from dataclasses import dataclass
from typing import Annotated, ClassVar
import os, time
import swm
from swm import DepthPruner, hookimpl
from swm.interfaces.depth import DepthProposal


@dataclass(frozen=True)
class Odd(DepthPruner):
    name: ClassVar[str] = "odd"
    way: str = "raise"

    def propose(self, context):
        if self.way == "raise":
            raise ZeroDivisionError("one over nothing")
        if self.way == "die":
            with open("tried", "a") as tried:
                tried.write("once, ")
            os.kill(os.getpid(), 9)
        time.sleep(60)


@hookimpl
def swm_register(register):
    register(Odd)
"""


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that were really carried out in this process."""
    found: list[str] = []
    real = worker.carry_out

    def counted(job: Any) -> Any:
        found.append(job["name"])
        return real(job)

    monkeypatch.setattr("swm.study.running.carry_out", counted)
    return found


def test_a_study_is_run_once_and_then_only_read(write: Any, tmp_path: Path, calls: list[str]) -> None:
    tally, results = run_study(write(), tmp_path / "out")
    assert (tally.done, tally.failed) == (7, [])
    assert len(calls) == 7
    again, same = run_study(write(), tmp_path / "out")
    assert (again.done, len(calls)) == (7, 7)
    assert same.rows == results.rows
    # A larger study takes what is there.
    run_study(write(grid={"stages.0.depth.target.layers": [1, 2, 3]}), tmp_path / "out")
    assert sorted(calls[7:]) == ["last, layers 3", "layers 3", "random, layers 3"]
    assert [path.name for path in (tmp_path / "out" / "claims").iterdir() if path.stat().st_size] == []


def test_a_text_that_was_edited_is_measured_anew(write: Any, tmp_path: Path, calls: list[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a little dog. " * 200)
    perplexity = {"text": str(text), "seq_len": 64, "max_tokens": 512}
    recipe = {"calibration": {"text": str(text), "samples": 2, "seq_len": 32}, "evaluate": {"perplexity": perplexity}}
    file = write(recipe=recipe, baselines=False)
    run_study(file, tmp_path / "out")
    before = {row["name"]: row["measures"] for row in rows(tmp_path / "out")}
    run_study(file, tmp_path / "out")
    assert len(calls) == len(before) == 3
    text.write_text("The sea was blue, and nobody was there to see it but a fish. " * 200)
    tally, results = run_study(file, tmp_path / "out")
    assert (tally.done, len(calls)) == (3, 6)
    after = {row["name"]: row["measures"] for row in results.rows}
    assert all(after[name]["perplexity"] != before[name]["perplexity"] for name in before)
    # Nothing of the first text is left where a page or a table could find it.
    kept = [json.loads(found.read_text()) for found in (tmp_path / "out" / "runs").glob("*/row.json")]
    assert {row["name"]: row["measures"]["perplexity"] for row in kept} == {
        n: m["perplexity"] for n, m in after.items()
    }


def test_a_table_holds_no_runs_of_a_plugin_before_it_was_edited(write: Any, tmp_path: Path) -> None:
    plugin = tmp_path / "odd.py"
    plugin.write_text(CRASHES)
    grid = {"stages.0.depth.pruner": ["odd", "last"]}
    file = write(recipe={"plugins": ["odd.py"]}, grid=grid, baselines=False)
    run_study(file, tmp_path / "out")
    plugin.write_text(CRASHES.replace("one over nothing", "two over nothing"))
    _, results = run_study(file, tmp_path / "out")
    assert sorted(row["name"] for row in results.rows) == ["dense", "last", "odd"]
    assert [row["error"] for row in results.rows if row["name"] == "odd"] == [SAID.format("two over nothing", 17)]


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["plugins", "out"])
def test_a_table_holds_no_runs_of_a_plugin_whose_helper_was_edited(
    folder: str, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("plugins", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "out" / "study.yaml").touch()
    monkeypatch.syspath_prepend(str(tmp_path / folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    helper = tmp_path / folder / "said_beside.py"
    plugin = CRASHES.replace('"one over nothing"', "SAID").replace(
        "import swm\n", "import swm\nfrom said_beside import SAID\n"
    )
    (tmp_path / folder / "odd.py").write_text(plugin)
    grid = {"stages.0.depth.pruner": ["odd", "last"]}
    file = write(recipe={"plugins": [f"{folder}/odd.py"]}, grid=grid, baselines=False)
    for said in ("one", "another"):
        helper.write_text(f"SAID = '{said}'\n")
        sys.modules.pop("said_beside", None)
        _, results = run_study(file, tmp_path / "out")
        assert sorted(row["name"] for row in results.rows) == ["dense", "last", "odd"]
        assert [row["error"] for row in results.rows if row["name"] == "odd"] == [SAID.format(said, 18)]
    sys.modules.pop("said_beside", None)


def test_a_study_in_a_folder_that_is_called_like_a_pruner_is_run_once(
    write: Any, tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    grid = {"stages.0.depth.pruner": ["last"]}
    for _ in range(2):
        run_study(write(grid=grid, baselines=False), Path("last"))
    assert len(calls) == 2


def test_the_original_is_measured_once(write: Any, tmp_path: Path) -> None:
    run_study(write(), tmp_path / "out")
    found = {row["name"]: row for row in rows(tmp_path / "out")}
    assert "measure dense" not in found["dense"]["took"]
    assert all(row["took"]["measure dense"] < 0.02 for row in found.values() if row["kind"] != "dense")
    report = json.loads((tmp_path / "out" / "runs" / found["layers 1"]["id"] / "report.json").read_text())
    assert report["perplexity"]["dense"]["value"] == found["dense"]["measures"]["perplexity"][0]


def test_a_run_that_fails_stops_no_other_and_is_tried_again_only_if_asked(
    write: Any, tmp_path: Path, calls: list[str]
) -> None:
    (tmp_path / "odd.py").write_text(CRASHES)
    recipe = {"plugins": ["odd.py"]}
    file = write(recipe=recipe, grid={"stages.0.depth.pruner": ["odd", "last"]}, baselines=False)
    tally, _ = run_study(file, tmp_path / "out")
    assert tally.done == 2
    [failed] = tally.failed
    assert failed["error"] == SAID.format("one over nothing", 17)
    assert "in propose" in failed["traceback"]
    assert "one over nothing" in (tmp_path / "out" / "study.html").read_text()
    count = len(calls)
    assert len(run_study(file, tmp_path / "out")[0].failed) == 1
    assert len(calls) == count
    run_study(file, tmp_path / "out", retry_failed=True)
    assert calls[count:] == ["odd"]
    assert [row["name"] for row in Journal(tmp_path / "out").rows()] == ["dense", "odd", "last"]


@pytest.mark.slow
def test_a_run_that_kills_two_processes_has_failed_and_the_others_go_on(write: Any, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(CRASHES.replace('"tried"', repr(str(tmp_path / "tried"))))
    file = write(
        recipe={"plugins": ["odd.py"]},
        executor={"name": "local", "threads": 1},
        grid={"stages.0.depth.pruner": [{"name": "odd", "way": "die"}, "last"]},
        baselines=False,
    )
    tally, _ = run_study(file, tmp_path / "out")
    assert tally.done == 2
    assert "killed, and so was the one that tried it again" in tally.failed[0]["error"]
    assert (tmp_path / "tried").read_text() == "once, once, "
    # It is written down, so that it is not tried for ever.
    again, _ = run_study(file, tmp_path / "out")
    assert (again.done, len(again.failed)) == (2, 1)
    assert (tmp_path / "tried").read_text() == "once, once, "


def _work(job: Job) -> Row:
    """Leaves, or gives what cannot be sent."""
    if "leave" in job:
        sys.exit(job["leave"])
    return {"cannot be sent": threading.Lock()}


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Local(threads=1).open(_work) as opened:
        yield opened


@pytest.mark.parametrize(
    ("way", "said"), [({"leave": 3}, "SystemExit: 3"), ({"lock": True}, "TypeError: cannot pickle")]
)
def test_whatever_comes_back_from_a_process_is_written_down(
    way: dict[str, Any], said: str, pool: Pool, loaded: Any, tmp_path: Path
) -> None:
    study = loaded()
    journal = open_journal(tmp_path / "out", described(study))
    run = StudyRun(id="a", kind="run", name="odd", recipe={}, axes={}, seed=0)
    finished: list[Row] = []

    class One(RunSource):
        left: ClassVar[list[StudyRun]] = [run]

        def take(self) -> StudyRun | None:
            return self.left.pop() if self.left else None

        def finished(self, run: StudyRun, row: Row) -> None:
            finished.append(row)

    runner = StudyRunner(study, journal, One(), pool, Silent())
    runner._job = lambda run: {"id": run.id, "folder": str(tmp_path), **way}  # type: ignore[method-assign]
    tally = runner.run()
    assert [row["state"] for row in finished] == ["failed"]
    assert said in tally.failed[0]["error"]
    assert journal.rows()[-1]["error"] == tally.failed[0]["error"]


def _swm(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "swm", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True)


def _wait_for(condition: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_stopped(write: Any, tmp_path: Path) -> None:
    file = write(executor={"name": "local", "threads": 1}, grid={"seed": [0, 1, 2, 3]})
    out = tmp_path / "out"
    process = _swm(tmp_path, "study", "run", file.name, "-o", "out", "--quiet")
    _wait_for(lambda: (out / "runs.jsonl").is_file() and len(rows(out)) >= 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = rows(out)
    with (out / "runs.jsonl").open("a") as torn:
        torn.write('{"id": "x", "na')
    tally, _ = run_study(write(grid={"seed": [0, 1, 2, 3]}), out)
    lines = [line for line in (out / "runs.jsonl").read_text().splitlines() if not line.startswith('{"id": "x"')]
    after = [json.loads(line) for line in lines]
    assert after[: len(before)] == before
    assert len({row["id"] for row in after}) == len(after) == tally.done
    assert not list((out / "runs").glob(".*"))


@pytest.mark.slow
def test_two_processes_share_a_folder_and_nothing_is_run_twice(write: Any, tmp_path: Path) -> None:
    write(executor={"name": "local", "threads": 1}, grid={"seed": list(range(4))}, baselines=False)
    both = [_swm(tmp_path, "study", "run", "study.yaml", "-o", "out", "--quiet") for _ in range(2)]
    assert [process.wait(timeout=180) for process in both] == [0, 0]
    found = rows(tmp_path / "out")
    assert len({row["id"] for row in found}) == len(found) == 5


@pytest.mark.parametrize("step", ["try_folder", "clear_dead", "write_yaml"])
def test_a_folder_that_another_process_makes_meanwhile_is_shared(
    step: str, loaded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = described(loaded())
    real, others = getattr(swm.study.journal, step), []

    def slow(*arguments: Any) -> Any:
        monkeypatch.setattr(swm.study.journal, step, real)
        others.append(open_journal(tmp_path / "out", study))
        return real(*arguments)

    monkeypatch.setattr(swm.study.journal, step, slow)
    journal = open_journal(tmp_path / "out", study)
    assert [other.folder for other in others] == [journal.folder]


def test_a_folder_in_which_another_process_is_writing_its_first_file_is_shared(loaded: Any, tmp_path: Path) -> None:
    with_first = tmp_path / "out"
    with_first.mkdir()
    with scratch(with_first):
        assert open_journal(with_first, described(loaded())).folder == with_first


def test_a_full_disk_stops_the_study_and_loses_nothing(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = os.fsync, []

    def full(handle: int) -> None:
        written.append(handle)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr("swm.study.journal.os.fsync", full)
    with pytest.raises(StudyError, match="No space left on device; what is done stays, and the same command goes on"):
        run_study(write(), tmp_path / "out")
    tally, _ = run_study(write(), tmp_path / "out")
    assert tally.done == 7
    assert len({row["id"] for row in rows(tmp_path / "out")}) == 7


def test_models_are_kept_and_verified_when_asked(write: Any, tmp_path: Path) -> None:
    file = write(grid={"seed": [0]}, baselines=False, keep_models=True)
    run_study(file, tmp_path / "out")
    [run] = [row for row in rows(tmp_path / "out") if row["kind"] == "run"]
    report = json.loads((tmp_path / "out" / "runs" / run["id"] / "model" / "report.json").read_text())
    assert report["verification"]["max_abs_difference"] == 0
    run_study(file, tmp_path / "quick", overrides=["recipe.verify=fast"])
    [quick] = [row for row in rows(tmp_path / "quick") if row["kind"] == "run"]
    report = json.loads((tmp_path / "quick" / "runs" / quick["id"] / "model" / "report.json").read_text())
    assert report["verification"]["level"] == "fast"
    assert quick["id"] == run["id"]
    with pytest.raises(SwmError, match="Did you mean 'fast'"):
        run_study(file, tmp_path / "wrong", overrides=["recipe.verify=fasst"])


@pytest.mark.slow
def test_with_and_without_the_cache_the_results_are_the_same_bytes(write: Any, tmp_path: Path) -> None:
    grid = {"stages.0.depth.target.layers": [1, 2], "stages.0.depth.merger": ["delete", "least-squares"]}
    for name, cache in [("plain", False), ("cold", True), ("warm", True)]:
        run_study(write(grid=grid, cache=cache), tmp_path / name)
    for which in ("cold", "warm"):
        for folder in (tmp_path / "plain" / "runs").iterdir():
            for file in folder.iterdir():
                if file.name != "row.json":
                    other = tmp_path / which / "runs" / folder.name / file.name
                    assert other.read_bytes() == file.read_bytes(), (which, file)
        for kind in ("png", "svg", "pdf"):
            pictures = [tmp_path / run / "figures" / f"pareto.{kind}" for run in ("plain", which)]
            assert pictures[0].read_bytes() == pictures[1].read_bytes()


def test_baselines_follow_what_a_threshold_removed(write: Any, tmp_path: Path) -> None:
    stages = [{"depth": {"pruner": {"name": "sliding-window", "threshold": 0.6}}}]
    run_study(write(recipe={"stages": stages}, grid=None), tmp_path / "out")
    found = {row["name"]: row for row in rows(tmp_path / "out")}
    removed = 5 - found["the recipe"]["measures"]["layers"][0]
    assert removed > 0
    assert {f"last, {removed} layers", f"random, {removed} layers"} < set(found)
    assert found[f"last, {removed} layers"]["follows"] == found["the recipe"]["id"]
