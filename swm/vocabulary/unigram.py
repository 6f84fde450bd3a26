"""Unigram: of all ways to split a text, the one whose tokens have the largest sum of scores."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, final

from swm.vocabulary.token_model import TokenModel


@final
class Unigram(TokenModel):
    """A `Unigram` model. With fewer tokens there are fewer ways to split a text, and the best one stays the best.

    One token must stay for that: where a character has no token of its own, the unknown token is tried in its place,
    and its score is ten below the lowest of all. With the token of the lowest score kept, the unknown token scores less
    than the character did, so that no way through it becomes the best.
    """

    def read_ids(self) -> dict[str, int]:
        return {token: i for i, (token, _) in enumerate(self.data["vocab"])}

    def always_kept(self) -> Collection[str]:
        vocabulary = self.data["vocab"]
        unknown = self.data.get("unk_id")
        lowest, _ = min(vocabulary, key=lambda entry: entry[1])
        return {*self.byte_tokens(), lowest, *([] if unknown is None else [vocabulary[unknown][0]])}

    def parts(self, token: str) -> Collection[str]:
        return ()

    def cut(self, new_ids: Mapping[int, int]) -> dict[str, Any]:
        unknown = self.data.get("unk_id")
        return {
            **self.data,
            "vocab": [entry for i, entry in enumerate(self.data["vocab"]) if i in new_ids],
            "unk_id": None if unknown is None else new_ids[unknown],
        }
