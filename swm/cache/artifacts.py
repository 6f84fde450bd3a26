"""Artifacts: what took long to make and may be wanted again, such as trainings, converted models and texts."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from swm.files.cache_folder import cache_folder
from swm.files.scratch import INDEX, size_of

# These have commands and limits of their own.
ELSEWHERE = ("observations", INDEX)


@dataclass(frozen=True)
class Artifact:
    """One file or folder of the cache: the folder it is in, its size in bytes, and when it changed (s since 1970)."""

    path: Path
    what: str
    size: int
    changed: float


def artifacts() -> list[Artifact]:
    """Trainings that could go on, converted models, texts that a model wrote: by kind, the longest unchanged first."""
    entries = []
    for folder in cache_folder().glob("*"):
        if folder.is_dir() and folder.name not in ELSEWHERE:
            for path in _within(folder):
                size = size_of(path) if path.is_dir() else path.stat().st_size
                entries.append(Artifact(path, folder.name, size, path.stat().st_mtime))
    return sorted(entries, key=lambda entry: (entry.what, entry.changed, entry.path.name))


def remove_artifacts() -> int:
    """Remove all of it but what a run has locked; returns how many went."""
    return sum(_removed(entry.path) for entry in artifacts())


def _removed(path: Path) -> bool:
    file = path.with_name(f".{path.name}.lock")
    lock = FileLock(file, timeout=0, thread_local=False)
    try:
        with lock:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            file.unlink(missing_ok=True)
    except Timeout:
        return False
    return not path.exists()


def _within(folder: Path) -> list[Path]:
    # Locks, and what is being written, have a name with a dot before it.
    return sorted(path for path in folder.glob("*") if not path.name.startswith("."))
