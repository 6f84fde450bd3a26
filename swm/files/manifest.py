"""The manifest of an output folder: every file that swm wrote into it, so that nothing of the user is ever removed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swm.errors import CheckpointError
from swm.files.writing import write_text
from swm.version import __version__

MANIFEST = "swm-manifest.json"
# The files that swm wrote before there were manifests, all in the folder itself.
EARLIER = frozenset(
    (
        *("report.json", "report.html", "timing.json", "recipe.yaml", "plan.yaml", "plan.fitted.safetensors"),
        *("README.md", "config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json"),
        *("modeling_swm.py", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json"),
        *("added_tokens.json", "vocab.json", "vocab.txt", "vocab.bpe", "merges.txt", "spiece.model", "spm.model"),
        *("sentencepiece.model", "sentencepiece.bpe.model", "tiktoken.model", "chat_template.jinja"),
        *("chat_template.json", "preprocessor_config.json", "LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE"),
        *("NOTICE.md", "NOTICE.txt", "inspection.json", "similarity.png", "similarity.svg", "influence.png"),
        *("influence.svg", "norms.png", "norms.svg"),
    )
)
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
# Their content is of one run alone.
TIMED = ("timing.json", "report.html")
SHOWN = 5


def write_manifest(folder: Path) -> None:
    """List all files of a finished folder with their sizes in bytes and hashes; by name alone those with times in them.

    So the same recipe gives the same manifest.
    """
    files = {name: None if name in TIMED else _entry(file) for name, file in _files(folder).items()}
    about = {"swm": __version__, "files": files}
    write_text(folder / MANIFEST, json.dumps(about, indent=2, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class Comparison:
    """A folder beside its manifest: names of files as they were written, changed since, gone, and not in it."""

    same: list[str]
    changed: list[str]
    missing: list[str]
    foreign: list[str]


def compare(folder: Path) -> Comparison | None:
    """Compare the files of a folder with its manifest; None where there is none.

    A manifest that cannot be read lists nothing.
    """
    listed = listed_files(folder / MANIFEST)
    if listed is None:
        return None
    files = {name: file for name, file in _files(folder).items() if name != MANIFEST}
    same = [name for name, file in files.items() if name in listed and listed[name] in (None, _entry(file))]
    return Comparison(
        same=same,
        changed=[name for name in files if name in listed and name not in same],
        missing=[name for name in listed if name not in files],
        foreign=[name for name in files if name not in listed],
    )


def check_ours(folder: Path) -> None:
    """Raise CheckpointError that names the files of a folder which swm did not write, or which were changed since.

    In a folder without a manifest, files of the very names that swm wrote then are swm's.
    """
    compared = compare(folder)
    if compared is None:
        foreign = [name for name, file in _files(folder).items() if not _is_earlier(name, file)]
    else:
        foreign = sorted([*compared.changed, *compared.foreign])
    if foreign:
        raise CheckpointError(
            f"output {folder} holds what swm did not write, or what was changed since: {first_of(foreign)}; move that "
            "away or choose another folder"
        )


def first_of(names: Sequence[str]) -> str:
    """The first names in a line, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def listed_files(file: Path) -> Mapping[str, Any] | None:
    """The files of a manifest by name; None where there is none, nothing of it where it cannot be read."""
    if not file.is_file():
        return None
    try:
        files = json.loads(file.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return files if isinstance(files, dict) else {}


def _is_earlier(name: str, file: Path) -> bool:
    known = name in EARLIER or SHARD.fullmatch(name) is not None
    return known and file.is_file() and not file.is_symlink()


def _files(folder: Path) -> dict[str, Path]:
    """All files and links by their path in the folder, and folders that are empty."""
    files = sorted(file for file in folder.rglob("*") if file.is_symlink() or not file.is_dir() or _is_empty(file))
    return {file.relative_to(folder).as_posix(): file for file in files}


def _is_empty(folder: Path) -> bool:
    return next(folder.iterdir(), None) is None


def _entry(file: Path) -> dict[str, Any]:
    """What the manifest says of a file; nothing of a link, a folder or a pipe, which swm never writes."""
    if file.is_symlink() or not file.is_file():
        return {}
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
