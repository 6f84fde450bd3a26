"""What was derived and proven for a config, kept on the disk; a damaged file is as good as none."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from pydantic import Field

from swm.derivation.proof import Capability, Proof, RowVerdict
from swm.files.cache_folder import cache_folder
from swm.files.json_text import dumps
from swm.files.typed_json import Record
from swm.files.writing import write_text
from swm.model.families import ModelFamily
from swm.model.fingerprint import relevant_config
from swm.provenance.dependencies import code_of_classes, key_of, own_code


class StoredRow(Record):
    """The row of a config, or why it can have none; `notes` are remarks on what it does not say."""

    family: ModelFamily | None = None
    proof: Mapping[Capability, RowVerdict] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
    error: str = ""

    def proven(self) -> Proof:
        """The verdicts on the row."""
        return Proof(self.proof)


def row_file(empty: Any, family: ModelFamily | None) -> Path | None:
    """The file in the cache folder for a model's config.

    Args:
        empty: The model, without memory for its weights.
        family: The row that is tested; None where one is derived.

    Returns:
        None where the model's code has no file, so that a change of it would go unnoticed.
    """
    code = code_of_classes({type(empty)})
    if code is None:
        return None
    about = {
        "config": relevant_config(empty.config.to_dict()),
        "class": type(empty).__qualname__,
        "model_code": code,
        "family": None if family is None else dataclasses.asdict(family),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        **own_code(),
    }
    return cache_folder() / "families" / f"{key_of(about)}.json"


def read_row(file: Path | None) -> StoredRow | None:
    """What the file holds; None where there is none or it is damaged."""
    if file is None:
        return None
    try:
        return StoredRow.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_row(file: Path | None, row: StoredRow) -> None:
    """Keep a row; where the cache folder cannot be written, it is made again the next time."""
    if file is not None:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, dumps(row.model_dump(mode="json"), indent=2) + "\n")
