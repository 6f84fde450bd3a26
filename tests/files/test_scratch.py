"""Scratch folders: locked while their run lives, put in order by the next one when it is dead."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from swm.cli import app
from swm.files.scratch import all_scratch_folders, clear_all_dead, clear_dead, scratch
from swm.files.writing import whole, write_text

CHILD = """
import sys, time
from pathlib import Path
from swm.files.scratch import scratch
with scratch(Path(sys.argv[1]), indexed=True) as place:
    (place.new / "half").write_text("half")
    if sys.argv[2]:
        (place.folder / "old").mkdir()
        (Path(sys.argv[1]) / sys.argv[2]).rename(place.folder / "old" / sys.argv[2])
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@contextmanager
def running(parent: Path, moved: str = "") -> Iterator[None]:
    """Another process that works in a scratch folder; killed at the end."""
    with subprocess.Popen([sys.executable, "-c", CHILD, str(parent), moved], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        yield
        os.kill(child.pid, signal.SIGKILL)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_scratch_folder_goes_at_the_end_and_after_an_error(tmp_path: Path) -> None:
    parent = tmp_path / "work"
    parent.mkdir()
    with scratch(parent) as place:
        (place.new / "half").write_text("half")
        assert names(parent) == [place.folder.name]
    with pytest.raises(KeyError), scratch(parent):
        raise KeyError
    assert names(parent) == []


def test_what_a_killed_run_left_is_cleared_and_what_a_living_one_makes_stays(tmp_path: Path, cache: Path) -> None:
    parent = tmp_path / "work"
    parent.mkdir()
    with running(parent):
        [left] = names(parent)
        assert left.startswith(".swm-scratch-")
        assert clear_dead(parent) == 0
        assert all_scratch_folders() == [(parent / left, True)]
    assert all_scratch_folders() == [(parent / left, False)]
    assert clear_dead(parent) == 1
    assert names(parent) == []
    assert all_scratch_folders() == []
    assert names(cache / "scratch") == []


def test_what_a_killed_run_had_moved_away_comes_back(tmp_path: Path) -> None:
    parent = tmp_path / "work"
    (parent / "out").mkdir(parents=True)
    (parent / "out" / "old").write_text("old")
    with running(parent, "out"):
        assert "out" not in names(parent)
        assert clear_all_dead() == 0
    assert clear_all_dead() == 1
    assert names(parent) == ["out"]
    assert (parent / "out" / "old").read_text() == "old"


def test_the_cache_commands_list_and_clear_what_killed_runs_left(tmp_path: Path) -> None:
    parent = tmp_path / "work"
    parent.mkdir()
    runner = CliRunner()

    def listed() -> list[tuple[str, int, bool]]:
        found = json.loads(runner.invoke(app, ["cache", "list", "--json"]).output)
        return [(entry["about"]["what"], entry["bytes"], entry["alive"]) for entry in found]

    with running(parent):
        assert listed() == [("scratch", 4, True)]
        runner.invoke(app, ["cache", "clear"])
    assert listed() == [("scratch", 4, False)]
    assert "of a dead run" in runner.invoke(app, ["cache", "list"]).output
    done = runner.invoke(app, ["cache", "clear"])
    assert done.output == "removed 0 observations and 1 scratch folders of killed runs\n"
    assert names(parent) == []


REPLACING = """
import itertools, sys
from pathlib import Path
from swm.files.scratch import clear_dead, scratch
target = Path(sys.argv[1])
for number in itertools.count(1):
    clear_dead(target.parent)
    with scratch(target.parent) as place:
        made = place.new / target.name
        made.mkdir()
        for name in "abcdefgh":
            (made / name).write_text(str(number))
        place.replace(made, target)
    print(number, flush=True)
"""


def test_a_process_killed_at_random_moments_leaves_a_whole_folder(tmp_path: Path) -> None:
    target = tmp_path / "work" / "out"
    target.mkdir(parents=True)
    for name in "abcdefgh":
        (target / name).write_text("0")
    moments, found = random.Random(3), []
    for _ in range(25):
        with subprocess.Popen([sys.executable, "-c", REPLACING, str(target)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(moments.uniform(0, 0.01))
            child.kill()
        clear_dead(target.parent)
        assert names(target.parent) == ["out"]
        contents = {(target / name).read_text() for name in "abcdefgh"}
        assert len(contents) == 1
        found.append(contents.pop())
    assert "0" not in found


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    for name in (".swm-scratch-mine", ".out.swm-backup-1", ".swm-scratch-1-20260101T000000"):
        (tmp_path / name).mkdir()
    before = names(tmp_path)
    assert clear_dead(tmp_path) == 0
    assert names(tmp_path) == before


def test_a_file_is_written_whole_or_stays_what_it_was(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    write_text(file, "first")

    def half() -> None:
        with whole(file) as made:
            made.write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        half()
    assert file.read_text() == "first"
    assert names(tmp_path) == ["plan.yaml"]


def test_a_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "text"


def test_a_device_is_written_to_as_it_is() -> None:
    write_text(Path("/dev/null"), "text")
    assert not Path("/dev/null").is_file()
