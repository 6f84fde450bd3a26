"""Piece: a sequence of tokens to train on."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """Token ids of one sequence; the loss counts on those from `start` on, but for the spans that are `hidden`.

    They are kept in four bytes each, as a long text has many. `source` is the number of the text that it is from.
    """

    ids: Sequence[int]
    start: int = 0
    hidden: Sequence[tuple[int, int]] = ()
    source: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", array("i", self.ids))

    def __hash__(self) -> int:
        return hash((tuple(self.ids), self.start, tuple(self.hidden)))

    @property
    def targets(self) -> int:
        """How many tokens are predicted: the first of a sequence never is."""
        return len(self.ids) - max(self.start, 1) - sum(end - begin for begin, end in self.hidden)

    @classmethod
    def of_marked(cls, ids: Sequence[int], predicted: Sequence[bool]) -> Piece:
        """Of a sequence in which some tokens are predicted."""
        start = next((i for i, wanted in enumerate(predicted) if wanted and i), len(ids))
        hidden: list[tuple[int, int]] = []
        for i in range(start, len(ids)):
            if not predicted[i]:
                begin = hidden.pop()[0] if hidden and hidden[-1][1] == i else i
                hidden.append((begin, i + 1))
        return cls(ids, start, tuple(hidden))


def digest_of(pieces: Iterable[Piece]) -> str:
    """A sha256 over the tokens of pieces, and which of them are predicted."""
    digest = hashlib.sha256()
    for piece in pieces:
        hidden = (tuple(piece.hidden),) if piece.hidden else ()
        digest.update(repr((tuple(piece.ids), piece.start, *hidden)).encode())
    return digest.hexdigest()
