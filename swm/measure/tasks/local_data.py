"""Data of a task out of files that the user names, for any task of lm-eval."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swm.errors import RecipeError, at, did_you_mean, listed, quoted
from swm.text.rows import rows
from swm.text.text_file import check_file

SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")
WHAT = "task data"

# A file for the split that is scored, or files by the names of splits.
TaskFiles = str | Mapping[str, str]


def check_files(given: TaskFiles) -> None:
    """Raise RecipeError for a task without a file, and TextError for a file that is not there."""
    if not given:
        raise RecipeError(f"found {quoted(given)}; allowed: a file, or files by split")
    for split, file in _by_split(given, "").items():
        with at(*([split] if split else [])):
            check_file(file, WHAT)


def write_task(name: str, definition: Path, config: Mapping[str, Any], given: TaskFiles, folder: Path) -> Path:
    """A task file: the definition, with nothing but the data replaced by that of the files.

    Args:
        name: What the task is called.
        definition: The file of lm-eval, or of the user, that defines the task.
        config: What that file says.
        given: The files.
        folder: Where the task file is written.

    Returns:
        The task file.

    Raises:
        RecipeError: For a split that the task does not use, and where none is scored.
    """
    used = {key: config[key] for key in SPLITS if config.get(key)}
    scored = used.get("test_split") or used.get("validation_split") or ""
    files = _by_split(given, scored)
    for split in files:
        if split not in used.values():
            raise RecipeError(
                f"unknown split {quoted(split)}; the task uses: {listed(set(used.values()))}."
                f"{did_you_mean(split, used.values())}",
                (split,),
            )
    if not {used.get("test_split"), used.get("validation_split")} & set(files):
        raise RecipeError(f"no file has the split that is scored; add {scored}: FILE")
    absolute = {split: str(check_file(file, WHAT).resolve()) for split, file in files.items()}
    lines = [
        f"include: {json.dumps(str(definition))}",
        f"task: {json.dumps(name)}",
        f"custom_dataset: !function {__name__}.{splits.__name__}",
        f"dataset_kwargs: {json.dumps({'files': absolute})}",
        *(f"{key}: null" for key, split in used.items() if split not in files),
    ]
    file = folder / "task.yaml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def splits(files: Mapping[str, str], **_: Any) -> dict[str, Any]:
    """The rows of each file as a data set in memory; lm-eval calls this. Raises TextError."""
    import datasets

    data = {split: [row for _, row in rows(file, WHAT, plain=False) or ()] for split, file in files.items()}
    for split, of_split in data.items():
        if not of_split or not all(isinstance(row, Mapping) for row in of_split):
            raise RecipeError(f"{WHAT} {files[split]} has {'rows that are no objects' if of_split else 'no rows'}")
    return {split: datasets.Dataset.from_list(list(map(dict, of_split))) for split, of_split in data.items()}


def origin(given: TaskFiles) -> str:
    """The data as records name it: the contents of its files and not their names, so that they can be compared."""
    by_split = _by_split(given, "")
    hashes = {split: hashlib.sha256(check_file(by_split[split], WHAT).read_bytes()).hexdigest() for split in by_split}
    return ", ".join(f"{split + ' ' if split else ''}sha256:{digest}" for split, digest in sorted(hashes.items()))


def _by_split(given: TaskFiles, scored: str) -> dict[str, str]:
    return {scored: given} if isinstance(given, str) else dict(given)
