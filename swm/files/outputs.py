"""Where a result goes, checked before anything heavy begins: a folder or file that can be written and is ours."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from swm.errors import CheckpointError, quoted
from swm.files.cache_folder import cache_folder
from swm.files.manifest import check_ours
from swm.files.plain_data import texts
from swm.files.scratch import clear_dead, scratch
from swm.paths import expanded


def output_path(output: str | Path, what: str = "output") -> Path:
    """The path with `~` expanded and a link followed. Raises CheckpointError for a link that leads nowhere."""
    try:
        path = Path(output).expanduser()
        if b"\0" in os.fsencode(path):
            raise ValueError("its name holds a NUL character")
        return path.resolve(strict=True) if path.is_symlink() else path
    except (OSError, RuntimeError, ValueError) as error:
        linked = isinstance(error, FileNotFoundError)
        why = "it is a link that leads nowhere" if linked else getattr(error, "strerror", None) or error
        raise CheckpointError(f"{what} {quoted(str(output))} cannot be used: {why}; choose another") from None


def output_folder(output: str | Path, overwrite: bool, mark: str) -> Path:
    """The output folder's path. Raises CheckpointError when it exists or cannot be made; leaves nothing behind.

    `mark` is a file that only folders of swm hold; a folder without it is not overwritten.
    """
    path = output_path(output)
    if path.name in ("", "..") or Path.cwd().is_relative_to(path.resolve()):
        raise CheckpointError(f"output '{output}' holds the folder you are in; name a folder of its own, as in out/new")
    try:
        clear_dead(path.parent)
        if path.exists() and not path.is_dir():
            raise CheckpointError(f"output {output} is a file")
        if path.exists() and not overwrite:
            raise CheckpointError(f"output {output} exists; choose another or pass --overwrite")
        if path.exists() and any(path.iterdir()) and not (path / mark).is_file():
            raise CheckpointError(f"output {output} has no {mark}, so swm did not write it; choose another folder")
        try_folder(path)
        if path.exists():
            check_ours(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"output {output} cannot be written: {getattr(error, 'strerror', None) or error}"
        ) from None
    return path


def try_folder(path: Path) -> None:
    """Raise OSError or ValueError where a folder of this path could not be made; leaves nothing behind."""
    above = nearest_folder(path)
    with scratch(above) as trial:
        # Names that the file system does not take are known now.
        (trial.new / path.absolute().relative_to(above)).mkdir(parents=True)


def nearest_folder(path: Path) -> Path:
    """The nearest folder above `path` that exists."""
    return next(parent for parent in path.absolute().parents if parent.exists())


def check_apart(output: Path, parent: Path) -> None:
    """Raise CheckpointError when `output` holds the model that is read from `parent`, or lies in it."""
    here, there = output.resolve(), parent.resolve()
    if there.is_relative_to(here):
        raise CheckpointError(f"output {output} holds the model that is read; choose another")
    check_outside(output, parent)


def check_outside(output: Path, parent: Path) -> None:
    """Raise CheckpointError when `output` lies in the model that is read from `parent`.

    This is enough where nothing else in the folder of `output` is replaced.
    """
    if output.resolve().is_relative_to(parent.resolve()):
        raise CheckpointError(f"output {output} lies inside the model that is read, {parent}; choose another")


def check_inputs(output: Path, settings: Any, files: Iterable[str | Path] = ()) -> None:
    """Raise CheckpointError when something that the run reads lies inside `output`, which would go with it.

    `settings` is plain data; whatever text in it names a thing on the disk is one, as the `files` are.
    """
    inside = output.resolve()
    named = [*(text for _, text in texts(settings)), *map(str, files), str(cache_folder())]
    for text in dict.fromkeys(named):
        try:
            path = expanded(text)
            lies_inside = path.exists() and (path.resolve().is_relative_to(inside) or _leads_through(path, inside))
        except (OSError, RuntimeError, ValueError):
            continue  # a prompt, say
        if lies_inside:
            raise CheckpointError(f"output {output} holds {text}, which is read; choose another, or move it away")


def _leads_through(path: Path, folder: Path) -> bool:
    """Whether the path itself stands in the folder, wherever its links lead."""
    return Path(os.path.abspath(path)).is_relative_to(folder)


def output_file(file: str | Path, what: str) -> Path:
    """The path of a file to write. Raises CheckpointError when it cannot be; leaves nothing behind."""
    path = output_path(file, what)
    if path.is_dir():
        raise CheckpointError(f"{what} {file} cannot be written: it is a folder; name a file in it")
    if not path.parent.is_dir():
        raise CheckpointError(f"{what} {file} cannot be written: folder {path.parent} does not exist")
    if path.exists() and not path.is_file():
        return path  # a device or a pipe
    try:
        clear_dead(path.parent)
        with scratch(path.parent) as trial:
            (trial.new / path.name).touch()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{what} {file} cannot be written: {getattr(error, 'strerror', None) or error}") from None
    return path
