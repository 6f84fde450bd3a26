"""The content of the files that a run reads, so that no row outlives the file that it was measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from swm.files.plain_data import SAID, texts
from swm.provenance.source_code import file_hash

# Of a larger file its size, beginning and end count: hashing the weights of every run would take longer than the run.
WHOLE = 64 * 2**20
END = 2**20


def content_of_inputs(recipe: Mapping[str, Any], study: Path, plugins: Iterable[str] = ()) -> dict[str, str]:
    """A hash of every file and folder that a plain recipe names, by the name it has there, and of the plugin files.

    With a plugin file counts what it imports or names beside it.
    Of a folder the files count that lie in it or one level below. What cannot be read is left out, and so is the folder
    of the `study` with all that is in it or around it: the study itself changes these, but no plugin.
    """
    hashes = {}
    own = study.resolve()
    named = (text for _, text in texts(recipe, SAID) if text and "\n" not in text)
    for name in dict.fromkeys(named):
        try:
            path = Path(name).expanduser()
            place = path.resolve()
            if path.exists() and not place.is_relative_to(own) and not own.is_relative_to(place):
                hashes[name] = _folder(path) if path.is_dir() else _file(path)
        except (OSError, ValueError, RuntimeError):
            continue
    for name in plugins:
        with suppress(OSError):
            hashes[name] = _plugin(Path(name))
    return hashes


def _plugin(file: Path) -> str:
    """That of the file alone where nothing beside it counts, as rows of earlier versions have it."""
    whole = file_hash(file)
    return _file(file) if whole == hashlib.sha256(file.read_bytes()).hexdigest() else whole[:16]


def _folder(folder: Path) -> str:
    files = sorted(file for pattern in ("*", "*/*") for file in folder.glob(pattern) if file.is_file())
    listed = [f"{file.relative_to(folder)} {_file(file)}" for file in files]
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()[:16]


def _file(file: Path) -> str:
    size = file.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        if size <= WHOLE:
            digest.update(stream.read())
        else:
            digest.update(stream.read(END))
            stream.seek(-END, 2)
            digest.update(stream.read())
    return digest.hexdigest()[:16]
