"""Ridge regression from sums over tokens: the tokens need not stay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from swm.memory.pieces import pieces

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
        return self.yy + sum(self._beyond(solution[:, part], part) for part in _columns(solution))

    def error_with(self, factor: Tensor, right: Tensor) -> float:
        """As `error`, of the B of `L L' B = right` for a triangular L; a few columns of B are made at a time.

        Args:
            factor: L, `[inputs, inputs]`.
            right: `[inputs, outputs]`.
        """
        return self.yy + sum(self._beyond(_solved(factor, right[:, part]), part) for part in _columns(right))

    def _beyond(self, solution: Tensor, part: slice) -> float:
        """What some columns of a solution add to `yy` in the error."""
        return float((solution * (self.xx @ solution)).sum()) - 2 * float((solution * self.xy[:, part]).sum())


def _columns(matrix: Tensor) -> list[slice]:
    """The columns of a matrix in pieces."""
    return pieces(matrix.shape[1], matrix.shape[0])


def solve(sums: Sums, ridge: float) -> Tensor:
    """As `Ridge(sums).solution(ridge)`, by a Cholesky factorisation where x'x allows it: many times faster."""
    factor = _factor(sums.xx, ridge)
    return Ridge(sums).solution(ridge) if factor is None else _solved(factor, sums.xy)


def best_ridge(sums: Sums, held_out: Sums, grid: Sequence[float] = GRID) -> tuple[float, float]:
    """The ridge of the grid whose solution has the least error on tokens that were left out, and that error.

    Each has a factorisation of its own: that takes less memory, and less time, than eigenvectors for all of them.
    """

    def error(ridge: float) -> float:
        factor = _factor(sums.xx, ridge)
        if factor is None:
            return held_out.error(Ridge(sums).solution(ridge))
        return held_out.error_with(factor, sums.xy)

    errors = {ridge: error(ridge) for ridge in grid}
    best = min(grid, key=lambda ridge: errors[ridge])
    return best, errors[best]


def _factor(xx: Tensor, ridge: float) -> Tensor | None:
    """The Cholesky factor of x'x with the ridge on its diagonal; None where it has none that can be computed."""
    if ridge == 0:
        return None
    # Column by column, as LAPACK has it: the factor then takes the place of the matrix.
    shifted = torch.empty_like(xx).mT.copy_(xx)
    shifted.diagonal().add_(ridge * xx.diagonal().mean())
    failed = torch.zeros((), dtype=torch.int32, device=xx.device)
    torch.linalg.cholesky_ex(shifted, out=(shifted, failed))
    return None if failed else shifted


def _solved(factor: Tensor, right: Tensor) -> Tensor:
    """B of `L L' B = right`; `cholesky_solve` would copy L."""
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    solution: Tensor = torch.linalg.solve_triangular(factor.mT, half, upper=True)
    return solution


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
