"""The tokens of a tokenizer by id, each with its type in a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True)
class Tokens:
    """A token and a type for each row of the embedding; those above it were left out."""

    texts: list[str]
    types: list[int]
    left_out: int


def tokens_of(data: Mapping[str, Any], rows: int) -> Tokens:
    """The tokens of a tokenizer.json, for a model with so many rows; rows without a token get one that no text has."""
    texts = {i: text for text, i in data["model"]["vocab"].items()}
    types = dict.fromkeys(texts, NORMAL)
    for added in data.get("added_tokens", ()):
        texts[added["id"]] = added["content"]
        types[added["id"]] = CONTROL if added.get("special") else USER_DEFINED
    taken = set(texts.values())
    for i in range(rows):
        if i not in texts:
            name = f"[PAD{i}]"
            while name in taken:
                name = f"[{name}]"
            texts[i], types[i] = name, UNUSED
    return Tokens([texts[i] for i in range(rows)], [types[i] for i in range(rows)], len(texts) - rows)
