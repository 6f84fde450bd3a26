"""The limits of control groups, read from files as Linux has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from swm.memory import control_groups, machine
from swm.memory.control_groups import GroupMemory, group_memory

MIB = 2**20
Write = Callable[..., None]


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes which groups this process is in, and the files of a group, whose names have underscores for dots."""
    monkeypatch.setattr(control_groups, "CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(control_groups, "OWN_GROUPS", tmp_path / "own")

    def write(own: str = "", folder: str = "", **files: int | str) -> None:
        if own:
            (tmp_path / "own").write_text(own)
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (tmp_path / folder / name.replace("_", ".", 1)).write_text(f"{text}\n")

    return write


def test_without_groups_or_without_a_limit_there_is_none(groups: Write) -> None:
    assert group_memory() is None
    groups("0::/\n", memory_max="max", memory_high="max", memory_current=5)
    assert group_memory() is None


def test_a_container_of_version_2_sees_its_group_at_the_root(groups: Write) -> None:
    groups("0::/\n", memory_max=900 * MIB, memory_current=300 * MIB, memory_stat="anon 100\nslab 3")
    assert group_memory() == GroupMemory(900 * MIB, 600 * MIB)


def test_pages_of_files_are_not_counted_as_used(groups: Write) -> None:
    stat = f"anon 100\ninactive_file {200 * MIB}\nactive_file {50 * MIB}"
    groups("0::/\n", memory_max=900 * MIB, memory_current=300 * MIB, memory_stat=stat)
    assert group_memory() == GroupMemory(900 * MIB, 850 * MIB)


def test_all_groups_above_one_limit_it_and_the_least_counts(groups: Write) -> None:
    groups("0::/user.slice/job.scope\n", "user.slice", memory_max=800 * MIB, memory_current=700 * MIB)
    groups("", "user.slice/job.scope", memory_max="max", memory_high=500 * MIB, memory_current=10 * MIB)
    assert group_memory() == GroupMemory(500 * MIB, 100 * MIB)


def test_groups_of_version_1_are_read_by_the_path_of_the_memory_controller(groups: Write) -> None:
    own = "5:cpu,cpuacct:/other\n4:memory:/docker/ab\n0::/\n"
    groups(own, "memory", memory_limit_in_bytes=2**63 - 4096, memory_usage_in_bytes=900 * MIB)
    groups("", "memory/docker/ab", memory_limit_in_bytes=600 * MIB, memory_usage_in_bytes=100 * MIB)
    groups("", "memory/other", memory_limit_in_bytes=1, memory_usage_in_bytes=1)
    assert group_memory() == GroupMemory(600 * MIB, 500 * MIB)


def test_a_group_that_uses_more_than_it_may_has_nothing_left(groups: Write) -> None:
    groups("0::/\n", memory_max=MIB, memory_current=2 * MIB)
    assert group_memory() == GroupMemory(MIB, 0)


def test_the_least_of_the_group_and_of_the_machine_is_what_a_run_may_take(
    groups: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups("0::/\n", memory_max=64 * MIB, memory_current=14 * MIB)
    assert (machine.physical_memory(), machine.available_memory()) == (64 * MIB, 50 * MIB)
    groups("", memory_max=2**60)
    assert machine.physical_memory() == machine._machine_memory()
    assert machine.available_memory() <= machine.physical_memory()
