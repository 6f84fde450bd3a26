"""Limits of memory that the control groups of this process set: containers, jobs of a scheduler, systemd's scopes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
# Of version 2 `high` is where the kernel begins to slow a group down; version 1 has no such file.
LIMITS = ("memory.max", "memory.high"), ("memory.limit_in_bytes",)
USES = "memory.current", "memory.usage_in_bytes"
# Pages of files, which the kernel drops or writes when it needs room; the first that is there holds all groups below.
FILE_PAGES = ("total_inactive_file", "total_active_file"), ("inactive_file", "active_file")


@dataclass(frozen=True)
class GroupMemory:
    """The bytes that a group may take, and those that are left of them."""

    limit: int
    left: int


def group_memory() -> GroupMemory | None:
    """The least that this process's groups allow, and the least that one of them has left; None without a limit.

    A group is limited by all those above it. A container that does not see its own path sees its group as the root.
    """
    groups = [group for folder in _folders() if (group := _memory_of(folder)) is not None]
    if not groups:
        return None
    return GroupMemory(min(group.limit for group in groups), min(group.left for group in groups))


def _folders() -> Iterator[Path]:
    """The folders of this process's groups that may limit memory, of both versions, and of all groups above them."""
    roots = [CONTROL_GROUPS, CONTROL_GROUPS / "memory", CONTROL_GROUPS / "unified"]
    yield from roots
    for line in _read(OWN_GROUPS).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number != "0" and "memory" not in controllers.split(","):
            continue
        below = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(1, len(below) + 1):
            yield from (root.joinpath(*below[:depth]) for root in roots)


def _memory_of(folder: Path) -> GroupMemory | None:
    """What a group allows and has left; None where it has no limit of its own."""
    for names, use in zip(LIMITS, USES, strict=True):
        limits = [limit for name in names if (limit := _number(folder / name)) is not None]
        if limits:
            used = max(0, (_number(folder / use) or 0) - _file_pages(folder))
            return GroupMemory(min(limits), max(0, min(limits) - used))
    return None


def _file_pages(folder: Path) -> int:
    lines = (line.split() for line in _read(folder / "memory.stat").splitlines())
    values = {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}
    for names in FILE_PAGES:
        if any(name in values for name in names):
            return sum(values.get(name, 0) for name in names)
    return 0


def _number(file: Path) -> int | None:
    """The number in a file; None for `max`, and where there is none."""
    text = _read(file).strip()
    return int(text) if text.isdigit() else None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
