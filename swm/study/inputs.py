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


# Before the name of a module whose code a run used.
CODE = "code of module "


def input_hashes(
    recipe: Mapping[str, Any], study: Path, plugins: Iterable[str] = (), code: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The content of everything that a run reads.

    Of a folder the files count that lie in it or one level below. What cannot be read is left out, and so is the
    folder of the study with all that is in it or around it: the study itself changes these, but no plugin.

    Args:
        recipe: Plain data that names files and folders.
        study: The folder of the study.
        plugins: Plugin files; what they import or name beside them counts too.
        code: Hashes of installed plugins by the names of their modules.

    Returns:
        Hashes by the names that the files have in the recipe, and by `code of module NAME`.
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
    return hashes | {f"{CODE}{module}": digest for module, digest in (code or {}).items()}


def is_current(row: Mapping[str, Any], now: Mapping[str, str], study: Path) -> bool:
    """Whether a row was measured on what its run reads now.

    Rows of earlier versions may lack inputs altogether, or those that are code; then nothing contradicts them. Those
    of the original model may name files that it does not read: these too must be as they were, or what is shown of
    the study would contradict the row.

    Args:
        row: A row of the journal.
        now: The inputs of its run, as `input_hashes` gives them.
        study: The folder of the study.
    """
    then = row.get("inputs")
    if then is None:
        return True
    now = {**input_hashes({"others": sorted(then.keys() - now.keys())}, study), **now}
    return then.items() <= now.items() and all(name in then or name.startswith(CODE) for name in now)


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
