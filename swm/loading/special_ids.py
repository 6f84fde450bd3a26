"""Special ids of a config or of generation settings, bound to the number of embeddings that the model has."""

from __future__ import annotations

from typing import Any

from swm.model.text_config import text_config
from swm.text.vocabulary import without_invalid

SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def embedding_count(config: Any) -> int | None:
    """The number of embeddings, which is the first token id that the model does not know."""
    rows = getattr(text_config(config), "vocab_size", None)
    return rows if isinstance(rows, int) else None


def correct_ids(settings: Any, rows: int | None) -> None:
    """Leave special ids that have no embedding out of a config or a generation config."""
    for name in SPECIAL_IDS:
        given = getattr(settings, name, None)
        if given is not None and rows is not None and without_invalid(given, rows) != given:
            setattr(settings, name, without_invalid(given, rows))


def correct_config(config: Any) -> None:
    """As `correct_ids`, for a config and for that of the text tower in it."""
    for part in {id(part): part for part in (config, text_config(config))}.values():
        correct_ids(part, embedding_count(config))
