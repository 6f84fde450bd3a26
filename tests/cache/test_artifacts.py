"""What the cache keeps besides observations is seen, and goes when it is asked to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from swm.cli import app


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWM_CACHE", str(tmp_path / "cache"))
    for file in ("recovery/abc/step-3/state.json", "gguf/model-1/config.json", "generated/text.json"):
        place = tmp_path / "cache" / file
        place.parent.mkdir(parents=True)
        place.write_text("x" * 1000)
    return tmp_path / "cache"


def test_everything_that_is_kept_is_listed_with_its_size(cache: Path) -> None:
    found = json.loads(CliRunner().invoke(app, ["cache", "list", "--json"]).output)
    assert {(Path(entry["path"]).relative_to(cache).as_posix(), entry["bytes"]) for entry in found} == {
        ("recovery/abc", 1000),
        ("gguf/model-1", 1000),
        ("generated/text.json", 1000),
    }
    assert "recovery" in CliRunner().invoke(app, ["cache", "list"]).output


def test_clear_keeps_what_took_long_to_make_unless_it_is_asked_for(cache: Path) -> None:
    assert CliRunner().invoke(app, ["cache", "clear"]).exit_code == 0
    assert (cache / "recovery/abc").is_dir()
    assert "removed 3 trainings" in CliRunner().invoke(app, ["cache", "clear", "--all"]).output
    assert not [*cache.glob("recovery/abc*"), *cache.glob("gguf/*"), *cache.glob("generated/*")]


def test_a_training_that_is_running_stays(cache: Path) -> None:
    with FileLock(cache / "recovery" / ".abc.lock", thread_local=False):
        assert "removed 2 trainings" in CliRunner().invoke(app, ["cache", "clear", "--all"]).output
    assert (cache / "recovery/abc/step-3/state.json").is_file()
