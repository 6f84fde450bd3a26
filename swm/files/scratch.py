"""Scratch folders: what is not finished lies in one, and a killed run's is put in order by the next run.

Each is named `.swm-scratch-PID-START-RANDOM`, lies on the file system of what is made in it, and holds `lock`, which
its process holds as long as it lives, `new`, which is being made, and `old`, which was moved away to make room. The
number of a process proves nothing, for containers number theirs alike: a run is dead when its lock is free.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from swm.files.cache_folder import cache_folder

PREFIX = ".swm-scratch-"
NAME = re.compile(rf"{re.escape(PREFIX)}\d+-\d{{8}}T\d{{6}}-\w+")
LOCK, NEW, OLD = "lock", "new", "old"
INDEX = "scratch"


@dataclass(frozen=True)
class Scratch:
    """A scratch folder of this process."""

    folder: Path

    @property
    def new(self) -> Path:
        """An existing folder for what is made."""
        return self.folder / NEW

    def replace(self, made: Path, target: Path) -> None:
        """Put `made`, a folder in `new`, in the place of the folder `target`, which goes once the new one stands.

        The scratch folder must lie beside `target`, so that the next run puts the old folder back after a kill.
        """
        old = self.folder / OLD / target.name
        old.parent.mkdir()
        target.rename(old)
        try:
            made.rename(target)
        except BaseException:
            old.rename(target)
            raise


@contextmanager
def scratch(parent: Path, indexed: bool = False) -> Iterator[Scratch]:
    """A new scratch folder in the existing folder `parent`; it goes at the end, whatever that is.

    With `indexed` it is found by `all_scratch_folders` wherever it lies. Raises OSError when it cannot be made.
    """
    folder, lock = _new_folder(parent)
    try:
        link = _link(folder) if indexed else None
        try:
            yield Scratch(folder)
        finally:
            if link is not None:
                link.unlink(missing_ok=True)
    finally:
        settle(folder)
        lock.release()


def _new_folder(parent: Path) -> tuple[Path, BaseFileLock]:
    """A new folder, locked."""
    while True:
        start = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=f"{PREFIX}{os.getpid()}-{start}-"))
        lock = FileLock(folder / LOCK, thread_local=False)
        try:
            lock.acquire()
            (folder / NEW).mkdir()
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()
            # Before it was locked, another process may have taken it for a dead run's.
            if not isinstance(error, FileNotFoundError) or not parent.is_dir():
                raise
        else:
            return folder, lock


def settle(folder: Path) -> None:
    """Put back what was moved away and has no successor, then remove the folder; it stays when that is impossible."""
    with contextlib.suppress(OSError):
        for kept in (folder / OLD).glob("*"):
            target = folder.parent / kept.name
            if not os.path.lexists(target):
                kept.rename(target)
        for part in (OLD, NEW):
            shutil.rmtree(folder / part, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def clear_dead(parent: Path) -> int:
    """Put all scratch folders of dead runs in `parent` in order; returns how many there were."""
    return sum(_settle_if_dead(folder) for folder in _in(parent))


def clear_all_dead() -> int:
    """The same for those in the cache and those in the index; returns how many there were."""
    count = sum(_settle_if_dead(folder) for folder, _ in all_scratch_folders())
    # Entries of the index whose folders are gone by now go too.
    all_scratch_folders()
    return count


def all_scratch_folders() -> list[tuple[Path, bool]]:
    """The scratch folders in the cache and in the index, and whether their runs are alive."""
    cache = cache_folder()
    folders = [*_in(cache), *(folder for each in cache.glob("*") if each.is_dir() for folder in _in(each))]
    for link in (cache / INDEX).glob(f"{PREFIX}*"):
        place = Path(os.path.realpath(link))
        if place.is_dir() and NAME.fullmatch(place.name):
            folders.append(place)
        else:
            with contextlib.suppress(OSError):
                link.unlink()
    return [(folder, _is_alive(folder)) for folder in dict.fromkeys(folders)]


def size_of(folder: Path) -> int:
    """The bytes in a folder that others may be changing."""
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += 0 if file.is_dir() else file.lstat().st_size
    return total


def _in(parent: Path) -> list[Path]:
    named = sorted(parent.glob(f"{PREFIX}*"))
    return [folder for folder in named if is_scratch(folder) and folder.is_dir() and not folder.is_symlink()]


def is_scratch(path: Path) -> bool:
    """Whether a path is named as a scratch folder."""
    return NAME.fullmatch(path.name) is not None


def _link(folder: Path) -> Path | None:
    """An entry of the index; None where the cache cannot be written."""
    link = cache_folder() / INDEX / folder.name
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder.absolute())
    except OSError:
        return None
    return link


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Whether the folder is a dead run's; while it is, no other process may say so too."""
    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
        dead = True
    except (Timeout, OSError):
        dead = False
    try:
        yield dead
    finally:
        lock.release()


def _settle_if_dead(folder: Path) -> bool:
    with _held(folder) as dead:
        if dead:
            settle(folder)
    return dead


def _is_alive(folder: Path) -> bool:
    with _held(folder) as dead:
        return not dead
