"""Byte-pair encoding: tokens are made of two others, pair by pair."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any, final

from swm.vocabulary.token_model import BYTE, TokenModel

Pair = tuple[str, str]


@final
class BytePairs(TokenModel):
    """A `BPE` model. Of all adjacent pairs, the one whose merge stands first in the list is merged first.

    A token that appears in a text was merged there in the same order as in the token's own characters alone: no merge
    crosses its ends, and merges elsewhere do not change the order of those inside. So the tokens of that one derivation
    are its parts. With them kept, every merge of the original run is there, and none that was not there before; the
    same merge is first in every step.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        super().__init__(data)
        self.merges = [_pair(merge) for merge in data.get("merges", ())]
        # As the library reads them: of equal pairs the last one counts.
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._prefix: str = data.get("continuing_subword_prefix") or ""
        self._pairs_of: dict[str, list[Pair]] = defaultdict(list)
        for pair in self.ranks:
            self._pairs_of[self.merged(pair)].append(pair)

    def read_ids(self) -> dict[str, int]:
        return dict(self.data["vocab"])

    def merged(self, pair: Pair) -> str:
        """The token that a pair is merged to."""
        return pair[0] + pair[1].removeprefix(self._prefix)

    def always_kept(self) -> Collection[str]:
        unknown = self.data.get("unk_token")
        return self.byte_tokens() | ({unknown} if unknown in self.ids else set())

    def parts(self, token: str) -> Collection[str]:
        derived = self._derivation(token)
        return self._every_derivation(token) if derived is None else derived

    def _derivation(self, token: str) -> set[str] | None:
        """The tokens of the one derivation from characters; None where there is none, or others may exist."""
        if self._prefix or self.data.get("end_of_word_suffix"):
            return None
        if self.data.get("byte_fallback") and BYTE.search(token):
            return None
        symbols = list(token)
        if any(symbol not in self.ids for symbol in symbols):
            return None
        seen = set(symbols)
        while len(symbols) > 1:
            ranked = [(self.ranks[pair], i) for i, pair in enumerate(itertools.pairwise(symbols)) if pair in self.ranks]
            if not ranked:
                return None
            _, first = min(ranked)
            symbols[first : first + 2] = [self.merged((symbols[first], symbols[first + 1]))]
            seen.add(symbols[first])
        return seen - {token}

    def _every_derivation(self, token: str) -> set[str]:
        """The tokens of all merges that end in this token."""
        parts: set[str] = set()
        waiting = [token]
        while waiting:
            new = {piece for pair in self._pairs_of.get(waiting.pop(), ()) for piece in pair} - parts
            parts |= new
            waiting += new
        return parts - {token}

    def cut(self, new_ids: Mapping[int, int]) -> dict[str, Any]:
        kept = self.kept_ids(new_ids)
        merges = [
            written
            for written, pair in zip(self.data.get("merges", ()), self.merges, strict=True)
            if pair[0] in kept and pair[1] in kept and self.merged(pair) in kept
        ]
        return {**self.data, "vocab": kept, "merges": merges}


def _pair(merge: Any) -> Pair:
    first, second = merge.split(" ", 1) if isinstance(merge, str) else merge
    return first, second
