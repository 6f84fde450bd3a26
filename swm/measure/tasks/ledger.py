"""Which scores the requests need, and what has been found for them so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from swm.measure.tasks.prefixes import Tokens


class Target(NamedTuple):
    """The tokens of one request, which the positions of its sequence from `first` on predict."""

    request: int
    first: int
    tokens: Sequence[int]


class Wanted(NamedTuple):
    """The score of one token at one place of a pass, for one request."""

    row: int
    column: int
    token: int
    request: int


Targets = Mapping[Tokens, Sequence[Target]]


def wanted(targets: Sequence[Target], row: int, column: int = 0) -> list[Wanted]:
    """Every score that the targets of a sequence need, for a sequence that begins at `(row, column)`."""
    return [Wanted(row, column + t.first + i, token, t.request) for t in targets for i, token in enumerate(t.tokens)]


class Ledger:
    """Sums of log-probabilities by request, and how many tokens were not the likeliest ones."""

    def __init__(self, requests: int) -> None:
        self.totals = torch.zeros(requests, dtype=torch.float64)
        self.missed = torch.zeros(requests, dtype=torch.long)

    def add(self, logits: Tensor, slots: Sequence[int], needed: Sequence[Wanted]) -> None:
        """Enter what `logits [places, vocabulary]` say; the i-th score needed is at place `slots[i]`."""
        at = torch.tensor(slots, device=logits.device)
        tokens = torch.tensor([item.token for item in needed], device=logits.device)
        requests = torch.tensor([item.request for item in needed])
        missed = logits.argmax(dim=-1)[at] != tokens
        found = logits.float().log_softmax(dim=-1)[at, tokens]
        self.totals.index_add_(0, requests, found.double().cpu())
        self.missed.index_add_(0, requests, missed.long().cpu())

    def agrees(self, other: Ledger, requests: Sequence[int], dtype: torch.dtype) -> bool:
        """Whether both hold the same sums for these requests, as far as sums of scores in `dtype` can be the same."""
        mine, theirs = self.totals[list(requests)], other.totals[list(requests)]
        precision = min(64 * torch.finfo(dtype).eps, 0.1)
        return bool(((mine - theirs).abs() <= precision * theirs.abs().clamp(min=2.0)).all())

    def answers(self) -> list[tuple[float, bool]]:
        """For each request its log-likelihood, and whether greedy decoding would say it."""
        return list(zip(self.totals.tolist(), (self.missed == 0).tolist(), strict=True))
