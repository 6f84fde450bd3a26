"""Words: tokens are looked up, whole (WordLevel) or from the left, the longest first (WordPiece)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, final

from swm.vocabulary.token_model import TokenModel


@final
class Words(TokenModel):
    """A `WordLevel` or `WordPiece` model. The longest token that fits stays the longest one when others go."""

    def read_ids(self) -> dict[str, int]:
        return dict(self.data["vocab"])

    def always_kept(self) -> Collection[str]:
        unknown = self.data.get("unk_token")
        return {unknown} if unknown in self.ids else set()

    def parts(self, token: str) -> Collection[str]:
        return ()

    def cut(self, new_ids: Mapping[int, int]) -> dict[str, Any]:
        return {**self.data, "vocab": self.kept_ids(new_ids)}
