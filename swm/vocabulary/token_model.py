"""TokenModel: the part of a tokenizer.json that splits a piece of text into tokens."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

# How tokenizers with byte fallback name the byte 0xE6.
BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class TokenModel(ABC):
    """One of the models of the `tokenizers` library, read from its JSON.

    A vocabulary is cut without changing how a text is split, as long as all tokens of that text stay: each kind of
    model says which other tokens (`parts`, `always_kept`) must stay for that.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.ids: dict[str, int] = self.read_ids()

    @abstractmethod
    def read_ids(self) -> dict[str, int]:
        """The id of each token."""

    @abstractmethod
    def parts(self, token: str) -> Collection[str]:
        """The other tokens without which this one would no longer be found in a text."""

    @abstractmethod
    def always_kept(self) -> Collection[str]:
        """The tokens that stay whatever else goes."""

    @abstractmethod
    def cut(self, new_ids: Mapping[int, int]) -> dict[str, Any]:
        """The JSON of the model with the tokens of these ids alone; `new_ids` rises with the old ids."""

    def byte_tokens(self) -> set[str]:
        """The tokens of single bytes, into which characters without a token are split."""
        return {token for token in self.ids if BYTE.fullmatch(token)} if self.data.get("byte_fallback") else set()

    def kept_ids(self, new_ids: Mapping[int, int]) -> dict[str, int]:
        """The new id of each token that stays, in the order of ids."""
        kept = {token: new_ids[old] for token, old in self.ids.items() if old in new_ids}
        return dict(sorted(kept.items(), key=lambda item: item[1]))
