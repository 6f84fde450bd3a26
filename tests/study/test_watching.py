"""A study is watched from the files of its folder alone."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from study_rows import failed, row

from swm.commands.study_watch import view, watch_study
from swm.errors import StudyError
from swm.study.journal import Journal
from swm.study.planned_file import write_planned
from swm.study.run_progress import FileProgress, reported, running
from swm.study.runs import StudyRun
from swm.study.watching import Watch

NATS = [1.0, 2.0, 3.0, 4.0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs of four are done, and one has failed."""
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"title": "A study", "grid": {"x": [1, 2, 3]}}))
    (tmp_path / "claims").mkdir()
    made = [row("dense", "dense", ratio=0.0, perplexity=9.0, nats=NATS), row("x 1", perplexity=9.5, nats=NATS, x=1)]
    made.append(failed("x 2"))
    for each in made:
        Journal(tmp_path).add(each)
    names = [("dense0", "dense"), ("x 10", "x 1"), ("x 20", "x 2"), ("x 30", "x 3")]
    runs = [StudyRun(i, "dense" if n == "dense" else "run", n, {}, {}, 0) for i, n in names]
    write_planned(tmp_path, runs, whole=True)
    return tmp_path


def test_the_state_is_told_while_a_process_works(folder: Path) -> None:
    watch = Watch(folder)
    assert watch.look().sentence == "2 of 4 runs done, 1 failed; no process works on the study"
    with Journal(folder).at_work(), reported(folder, "x 30", "x 3") as progress, progress.task("perplexity", 8) as task:
        task.advance(3)
        [state] = running(folder)
        assert (state.name, state.step, state.total) == ("x 3", "perplexity", 8)
        assert state.worker.endswith(f":{os.getpid()}")
        snapshot = watch.look()
        assert snapshot.sentence == "2 of 4 runs done, 1 failed; 1 running in 1 process"
        with Journal(folder).at_work():
            assert watch.look().processes == 2
    assert running(folder) == []
    assert watch.look().processes == 0


def test_looking_takes_nothing_from_those_who_work(folder: Path) -> None:
    journal = Journal(folder)
    before = sorted(path.name for path in folder.rglob("*"))
    Watch(folder).look()
    assert sorted(path.name for path in folder.rglob("*")) == before
    with journal.at_work():
        Watch(folder).look()
        lock = journal.claim("x 30")
        assert lock is not None
        lock.release()


def test_it_ends_with_the_study_and_reads_results_only_when_there_are_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Any] = []
    real = Watch.look.__globals__["read_results"]
    monkeypatch.setitem(Watch.look.__globals__, "read_results", lambda place: (reads.append(place), real(place))[1])
    work = Journal(folder).at_work()
    work.__enter__()
    rounds: list[str] = []

    def wait() -> None:
        if len(rounds) == 2:
            Journal(folder).add(row("x 3", perplexity=9.7, nats=NATS, x=3))
        if len(rounds) == 3:
            work.__exit__(None, None, None)

    last = Watch(folder).follow(lambda snapshot: rounds.append(snapshot.sentence), wait)
    assert [line.partition(";")[0] for line in rounds] == ["2 of 4 runs done, 1 failed"] * 2 + [
        "3 of 4 runs done, 1 failed"
    ] * 2
    assert len(reads) == 2
    assert last.done == 3


def test_the_view_has_the_workers_and_as_much_of_the_table_as_there_is_room_for(folder: Path) -> None:
    for i in range(30):
        Journal(folder).add(row(f"x {i + 4}", perplexity=10.0 + i, nats=NATS, x=i + 4))
    console = Console(file=io.StringIO(), force_terminal=True, width=110, height=24, color_system=None)
    with Journal(folder).at_work(), reported(folder, "x 30", "x 3 \x1b[2J") as progress, progress.task("loss", 4):
        console.print(view(Watch(folder).look(), console.height))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "A study: 2 of 4 runs done, 1 failed; 1 running in 1 process" in text
    assert "x 3 \\x1b[2J" in text
    assert "loss 0/4" in text
    assert "and 21 more; swm study show FOLDER has all" in text
    assert len(text.splitlines()) <= 24


def test_a_study_without_a_finished_run_is_shown_without_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"title": "A study", "grid": {"x": [1]}}))
    (tmp_path / "claims").mkdir()
    console = Console(file=io.StringIO(), force_terminal=True, width=110, height=24, color_system=None)
    with Journal(tmp_path).at_work():
        console.print(view(Watch(tmp_path).look(), console.height))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.strip() for line in lines if line.strip()][1:] == [
        "no run is done yet",
        "Ctrl-C ends the view, not the study",
    ]


def test_a_live_view_ends_when_nobody_works_and_a_pipe_gets_it_once(folder: Path) -> None:
    for terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=110, height=40, color_system=None)
        watch_study(console, Watch(folder), 0.01)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert text.count("run, ± standard error") == 1
        assert "2 of 4 runs done, 1 failed; no process works on the study" in text
        assert ("\x1b" in text) is False


def test_a_folder_that_is_no_studys_is_told(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"has no study.yaml"):
        Watch(tmp_path).look()


def test_a_full_disk_does_not_stop_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    progress = FileProgress(tmp_path / "file" / "x.json", "x", "x")
    with progress.task("outer") as outer, progress.task("inner", 2) as inner:
        inner.advance()
        outer.advance()
    progress.end()


def test_damaged_files_of_runs_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "a.progress.json").write_text("{")
    (tmp_path / "claims" / "b.progress.json").write_text('{"run": 3}')
    assert running(tmp_path) == []
