"""Settings files that are copied from the original model, as transformers 4 reads them too and without private keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swm.files.json_text import dumps
from swm.files.writing import write_text

TOKENIZER = "tokenizer_config.json"
# What transformers notes of the machine on which it loaded a file; it reads none of it again.
PRIVATE = (
    "_commit_hash",
    "_is_local",
    "_model_name_or_path",
    "_name_or_path",
    "is_local",
    "local_files_only",
    "name_or_path",
)
# transformers 5 takes this name for its own one: both read all from tokenizer.json.
SHARED_CLASS, NEW_CLASSES = "PreTrainedTokenizerFast", ("TokenizersBackend",)


def share_settings(folder: Path) -> None:
    """Take private keys out of the JSON files of a saved folder, and name what both versions of transformers know.

    A file in which there is nothing to change keeps its bytes.
    """
    for file in sorted(folder.glob("*config.json")):
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # the check that follows says what is wrong with it
        shared = without_private(settings)
        if file.name == TOKENIZER and isinstance(shared, dict):
            shared = _shared_tokenizer(shared, (folder / "tokenizer.json").is_file())
        if shared != settings:
            write_text(file, dumps(shared, indent=2) + "\n")


def shared_class(name: str) -> str:
    """The name under which both versions know a class of tokenizers that read all from tokenizer.json."""
    return SHARED_CLASS if name in NEW_CLASSES else name


def without_private(settings: Any) -> Any:
    """The settings, and those within them, without private keys."""
    if not isinstance(settings, Mapping):
        return settings
    return {key: without_private(value) for key, value in settings.items() if key not in PRIVATE}


def _shared_tokenizer(settings: dict[str, Any], has_json: bool) -> dict[str, Any]:
    """The settings of a tokenizer under names that transformers 4 knows.

    `has_json` says that there is a tokenizer.json, without which the class that is named counts.
    """
    named, special = settings.get("tokenizer_class"), settings.get("extra_special_tokens")
    if has_json and isinstance(named, str):
        settings = {**settings, "tokenizer_class": shared_class(named)}
    if isinstance(special, list) and not settings.get("additional_special_tokens"):
        # transformers 4 keeps a mapping under that name.
        kept = {key: value for key, value in settings.items() if key != "extra_special_tokens"}
        settings = {**kept, "additional_special_tokens": special}
    return settings
