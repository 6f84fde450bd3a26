"""What a saved model takes over from its parent folder: tokenizer, templates, licence, code that the user allowed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swm.errors import CheckpointError

LICENCES = ("LICENSE*", "NOTICE*")
# Vocabularies whose names each tokenizer's class chooses; all other names are taken from transformers.
VOCABULARIES = ("tokenizer*", "vocab.*", "merges.txt", "*.model", "*.tiktoken", "tekken.json", "chat_template*")
# Larger than any vocabulary.
LARGEST = 512 * 2**20
CONFIGS = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")


def copy_companions(parent: Path, folder: Path, trust_remote_code: bool = False) -> list[str]:
    """Copy them byte for byte; what the model itself wrote stays. Returns what was left out, and why, a line each."""
    notes = []
    for file in _files_to_copy(parent):
        why = _reason_to_skip(file, parent)
        target = folder / file.relative_to(parent)
        if why:
            notes.append(f"{file.relative_to(parent)} was not copied: {why}")
        elif not target.exists():
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
    return [*notes, *_settle_code(parent, folder, trust_remote_code)]


def check_companions(parent: Path) -> None:
    """Raise CheckpointError when a file without which the tokenizer could not be loaded would not be copied."""
    for file in _files_to_copy(parent):
        if file.is_symlink() and not any(file.match(pattern) for pattern in LICENCES) and not file.is_dir():
            why = _reason_to_skip(file, parent)
            if why:
                raise CheckpointError(f"{file} would not be copied: {why}; put the file itself there")


def keeps_code(folder: Path) -> bool:
    """Whether a saved folder names code of its own."""
    return any(_read(folder / name).get("auto_map") for name in CONFIGS)


def drop_code(folder: Path, file: str, keys: list[str]) -> None:
    """Take entries out of the `auto_map` of a file."""
    data = _read(folder / file)
    data["auto_map"] = {key: value for key, value in data["auto_map"].items() if key not in keys}
    if not data["auto_map"]:
        del data["auto_map"]
    (folder / file).write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _files_to_copy(parent: Path) -> Iterator[Path]:
    """Files of the tokenizer, the processor and the licence, by the names that transformers gives them."""
    from transformers import tokenization_utils_base as tokenizers
    from transformers import utils

    named = {
        value
        for module in (tokenizers, utils)
        for key, value in vars(module).items()
        if key.endswith("_FILE") or (key.endswith("_NAME") and ("PROCESSOR" in key or "EXTRACTOR" in key))
        if isinstance(value, str) and not value.endswith(".bin")
    }
    files = {file for pattern in (*named, *VOCABULARIES, *LICENCES) for file in parent.glob(pattern)}
    files.discard(parent / utils.CHAT_TEMPLATE_DIR)
    yield from sorted(files)
    if not (parent / utils.CHAT_TEMPLATE_DIR).is_symlink():
        yield from sorted((parent / utils.CHAT_TEMPLATE_DIR).glob("*.jinja"))


def _reason_to_skip(file: Path, parent: Path) -> str:
    """Why a file is not copied; empty when it is."""
    try:
        real = file.resolve(strict=True)
    except (OSError, RuntimeError):
        return "its link leads nowhere"
    if not any(real.is_relative_to(root) for root in _roots(parent)):
        return "its link leads out of the model's folder"
    if not real.is_file():
        return "it is a folder" if real.is_dir() else "it is no regular file"
    return f"it is larger than {LARGEST // 2**20} MiB" if real.stat().st_size > LARGEST else ""


def _roots(parent: Path) -> list[Path]:
    """The model's folder, that in which its config really lies, and its files in the hub's cache."""
    roots = [parent.resolve()]
    if (parent / "config.json").is_file():
        roots.append((parent / "config.json").resolve().parent)
    if parent.resolve().parent.name == "snapshots":
        roots.append(parent.resolve().parents[1] / "blobs")
    return roots


def _settle_code(parent: Path, folder: Path, trust_remote_code: bool) -> list[str]:
    """Copy the code that `auto_map` names if the user allowed it; entries whose code is not here go."""
    notes = []
    for name in CONFIGS:
        entries = _read(folder / name).get("auto_map") or {}
        if not isinstance(entries, dict):
            entries = {}
        gone = [key for key, value in entries.items() if not _has_code(value, parent, folder, trust_remote_code)]
        if gone:
            drop_code(folder, name, gone)
            notes.append(f"{name}: auto_map no longer names {', '.join(gone)}, whose code is not in this folder")
    return notes


def _has_code(value: Any, parent: Path, folder: Path, trust_remote_code: bool) -> bool:
    """Copy the files of the classes that an entry of `auto_map` names, where the user allowed that.

    Args:
        value: The entry: a reference `module.Class`, or a list of them.
        parent: The folder that the files come from.
        folder: The saved folder.
        trust_remote_code: Whether the user allowed code of the parent's folder.

    Returns:
        Whether all files are in the saved folder now.
    """
    from transformers.dynamic_module_utils import get_relative_import_files

    references = [each for each in (value if isinstance(value, list) else [value]) if each is not None]
    for reference in references:
        if not isinstance(reference, str) or "--" in reference or reference.count(".") != 1:
            return False
        file = f"{reference.partition('.')[0]}.py"
        if (folder / file).is_file():
            continue
        if not trust_remote_code or not (parent / file).is_file():
            return False
        for source in [parent / file, *map(Path, get_relative_import_files(parent / file))]:
            if not source.is_relative_to(parent) or _reason_to_skip(source, parent):
                return False
            target = folder / source.relative_to(parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return bool(references)


def _read(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
