"""Which token scores the requests need, and their sums by request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from swm.measure.tasks.prefix_groups import Tokens


class Continuation(NamedTuple):
    """The tokens of one request's continuation, which the positions of its sequence from `first` on predict."""

    request: int
    first: int
    tokens: Sequence[int]


class ScoredToken(NamedTuple):
    """A token whose score one request needs, and the place (row and column) of the pass that predicts it."""

    row: int
    column: int
    token: int
    request: int


class RequestScores:
    """Sums of log-probabilities by request, and how many tokens were not the likeliest ones.

    `continuations` has those of all requests, by the sequence that predicts them.
    """

    def __init__(self, requests: int, continuations: Mapping[Tokens, Sequence[Continuation]]) -> None:
        self.continuations = continuations
        self.totals = torch.zeros(requests, dtype=torch.float64)
        self.missed = torch.zeros(requests, dtype=torch.long)

    def needed(self, sequence: Tokens, row: int, column: int = 0) -> list[ScoredToken]:
        """Every score that the requests need of a sequence that begins at `(row, column)` of a pass."""
        return [
            ScoredToken(row, column + continuation.first + i, token, continuation.request)
            for continuation in self.continuations[sequence]
            for i, token in enumerate(continuation.tokens)
        ]

    def add(self, logits: Tensor, places: Sequence[int], needed: Sequence[ScoredToken]) -> None:
        """Add what `logits [places, vocabulary]` say; the score of `needed[i]` is in row `places[i]` of them."""
        at = torch.tensor(places, device=logits.device)
        tokens = torch.tensor([scored.token for scored in needed], device=logits.device)
        requests = torch.tensor([scored.request for scored in needed])
        missed = logits.argmax(dim=-1)[at] != tokens
        log_probabilities = logits.float().log_softmax(dim=-1)[at, tokens]
        self.totals.index_add_(0, requests, log_probabilities.double().cpu())
        self.missed.index_add_(0, requests, missed.long().cpu())

    def agrees(self, other: RequestScores, requests: Sequence[int], dtype: torch.dtype) -> bool:
        """Whether both hold the same sums for these requests, as far as sums of scores in `dtype` can be the same."""
        mine, theirs = self.totals[list(requests)], other.totals[list(requests)]
        precision = min(64 * torch.finfo(dtype).eps, 0.1)
        return bool(((mine - theirs).abs() <= precision * theirs.abs().clamp(min=2.0)).all())

    def answers(self) -> list[tuple[float, bool]]:
        """For each request its log-likelihood, and whether greedy decoding would say it."""
        return list(zip(self.totals.tolist(), (self.missed == 0).tolist(), strict=True))
