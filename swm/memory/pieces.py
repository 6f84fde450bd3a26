"""Tensors of all samples, used some samples at a time, so that what is computed on the way stays small."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# In float64, the numbers of one piece take at most this much memory, or are those of one sample.
PIECE_BYTES = 16 * 2**20


class Rows(Protocol):
    """A tensor `[samples, ..]`, or what gives slices of one."""

    def __len__(self) -> int:
        """The number of samples."""

    def __getitem__(self, rows: slice) -> Tensor:
        """Some samples."""


@dataclass(frozen=True)
class MadeRows:
    """A tensor of all samples whose slices are made where they are asked for."""

    samples: int
    make: Callable[[slice], Tensor]

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, rows: slice) -> Tensor:
        return self.make(rows)


def pieces(samples: int, numbers: int) -> list[slice]:
    """Slices of the samples; each sample has so many numbers. A slice is as long as `PIECE_BYTES` allows."""
    size = max(1, PIECE_BYTES // (8 * max(1, numbers)))
    return [slice(i, min(i + size, samples)) for i in range(0, samples, size)]


def pieces_of(tensor: Tensor) -> list[slice]:
    """`pieces` for a tensor `[samples, ..]`."""
    return pieces(len(tensor), math.prod(tensor.shape[1:]))


def norm_of(values: Rows) -> float:
    """The Euclidean norm of hidden states `[samples, seq, hidden]`, some samples at a time; sums in float64."""
    size = values[:1].numel()
    squares = [
        torch.linalg.vector_norm(values[rows], dtype=torch.float64).square() for rows in pieces(len(values), size)
    ]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
