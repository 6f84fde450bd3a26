"""What the original model says of pieces of text, kept so that a training needs no original model beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from swm.cache.observations import Observation
from swm.training.piece import Piece
from swm.training.top_divergence import TopTokens


@dataclass(frozen=True)
class AnswerSettings:
    """What is kept of each predicted token, and of each token.

    `top_k` tokens with their log-probabilities at `temperature`, and the outputs of the original model's `layers`, in
    bfloat16, whose range is that of float32. The original is run on `batch_tokens` at a time, and in bfloat16 where
    `bf16` says so.
    """

    top_k: int
    temperature: float = 1.0
    layers: tuple[int, ...] = ()
    batch_tokens: int = 1024
    bf16: bool = False

    def bytes_per_token(self, hidden: int) -> int:
        """What a token takes where all are predicted."""
        return 8 * self.top_k + 4 + 2 * hidden * len(self.layers)


class PieceAnswers(NamedTuple):
    """Those of some pieces, in order: of the predicted tokens, and by layer the hidden states of all tokens."""

    top: TopTokens
    states: Sequence[Tensor]


class _Place(NamedTuple):
    chunk: Observation
    predicted: slice
    tokens: slice


@dataclass
class TeacherAnswers:
    """The answers of many pieces; their tensors are mapped from files of the cache where there is one."""

    _places: dict[Piece, _Place] = field(default_factory=dict)

    def add(self, pieces: Sequence[Piece], chunk: Observation) -> None:
        """Take in what `swm/training/teacher_pass.py` has written of these pieces."""
        predicted = tokens = 0
        for piece in pieces:
            ends = predicted + piece.targets, tokens + len(piece.ids)
            self._places[piece] = _Place(chunk, slice(predicted, ends[0]), slice(tokens, ends[1]))
            predicted, tokens = ends

    def of(self, pieces: Sequence[Piece]) -> PieceAnswers:
        """The answers of pieces, one after the other."""
        places = [self._places[piece] for piece in pieces]
        top = (torch.cat([p.chunk.tensors[name][p.predicted] for p in places]) for name in TopTokens._fields)
        states = [p.chunk.tensors["states"][:, p.tokens] for p in places if "states" in p.chunk.tensors]
        return PieceAnswers(TopTokens(*top), list(torch.cat(states, dim=1)) if states else [])
