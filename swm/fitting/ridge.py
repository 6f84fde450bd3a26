"""Ridge regression from sums over tokens: the tokens need not stay, and one factorisation serves any ridge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

# In units of the mean of the diagonal of x'x.
GRID = tuple(10.0**power for power in range(-6, 3))


@dataclass
class Sums:
    """Sums over tokens in float64: `xx` `[inputs, inputs]`, `xy` `[inputs, outputs]` and `yy`, a number."""

    xx: Tensor
    xy: Tensor
    yy: float

    @classmethod
    def zeros(cls, inputs: int, outputs: int, device: torch.device) -> Sums:
        """Of no token yet."""
        xx = torch.zeros(inputs, inputs, dtype=torch.float64, device=device)
        return cls(xx, torch.zeros(inputs, outputs, dtype=torch.float64, device=device), 0.0)

    @classmethod
    def of(cls, x: Tensor, y: Tensor, chunk: int = 4096) -> Sums:
        """Of tokens x `[tokens, inputs]` and y `[tokens, outputs]`, so many at a time."""
        sums = cls.zeros(x.shape[1], y.shape[1], x.device)
        for part, other in zip(torch.split(x, chunk), torch.split(y, chunk), strict=True):
            sums.add(part.double(), other.double())
        return sums

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add tokens; the products over these are of their own precision."""
        if x.dtype == torch.float64:
            self.xx.addmm_(x.T, x)
            self.xy.addmm_(x.T, y)
        else:
            self.xx += x.T @ x
            self.xy += x.T @ y
        self.yy += float(y.double().square().sum())

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.xx + other.xx, self.xy + other.xy, self.yy + other.yy)

    def __iadd__(self, other: Sums) -> Self:
        self.xx += other.xx
        self.xy += other.xy
        self.yy += other.yy
        return self

    def error(self, solution: Tensor) -> float:
        """`||y - x B||^2` for a solution B `[inputs, outputs]`."""
        return self.yy - 2 * float((solution * self.xy).sum()) + float((solution * (self.xx @ solution)).sum())


def solve(sums: Sums, ridge: float) -> Tensor:
    """As `Ridge(sums).solution(ridge)`, by a Cholesky factorisation where x'x allows it: many times faster."""
    shifted = sums.xx.clone()
    shifted.diagonal().add_(ridge * sums.xx.diagonal().mean())
    factor, failed = torch.linalg.cholesky_ex(shifted)
    if ridge == 0 or failed:
        return Ridge(sums).solution(ridge)
    return torch.cholesky_solve(sums.xy, factor)


class Ridge:
    """`argmin ||y - x B||^2 + ridge s ||B||^2` for any ridge, s being the mean of the diagonal of x'x."""

    def __init__(self, sums: Sums) -> None:
        self._scale = float(sums.xx.diagonal().mean())
        self._values, self._vectors = torch.linalg.eigh(sums.xx)
        self._right = self._vectors.T @ sums.xy

    def solution(self, ridge: float) -> Tensor:
        """B `[inputs, outputs]`; directions that x does not have stay 0."""
        least = torch.finfo(torch.float64).eps * self._values[-1].clamp_min(0) * len(self._values)
        weights = torch.where(self._values > least, self._values + ridge * self._scale, math.inf)
        solution: Tensor = self._vectors @ (self._right / weights[:, None])
        return solution

    def best(self, held_out: Sums, grid: Sequence[float] = GRID) -> float:
        """The ridge of the grid with the least error on tokens that were left out."""
        return min(grid, key=lambda ridge: held_out.error(self.solution(ridge)))
