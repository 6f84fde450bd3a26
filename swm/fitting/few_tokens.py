"""Ridge regression on fewer tokens than there are inputs: their own Gram matrix is the smaller one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swm.fitting.ridge import GRID


@dataclass(frozen=True)
class FewTokens:
    """Tokens x `[tokens, inputs]` and y `[tokens, outputs]` in float64.

    `argmin ||y - x B||^2 + ridge s ||B||^2`, s being the mean of the diagonal of x'x, is `x' (x x' + ridge s)^-1 y`:
    the B of `Ridge`, where `[tokens, tokens]` takes the place of `[inputs, inputs]`.
    """

    x: Tensor
    y: Tensor

    def best_ridge(self, held_out: Tensor, grid: Sequence[float] = GRID) -> tuple[float, float]:
        """The ridge of the grid with the least error on the tokens `held_out` `[tokens]`, bool, and that error.

        The others are fitted to.
        """
        gram = self.x @ self.x.T
        fitted = _Eigen(gram[~held_out][:, ~held_out], self.x.shape[1])
        right, across = fitted.vectors.T @ self.y[~held_out], gram[held_out][:, ~held_out] @ fitted.vectors
        wanted = self.y[held_out]

        def error(ridge: float) -> float:
            given = across @ (right / fitted.weights(ridge)[:, None])
            return float((wanted - given).square().sum())

        errors = {ridge: error(ridge) for ridge in grid}
        best = min(grid, key=lambda ridge: errors[ridge])
        return best, errors[best]

    def solve(self, ridge: float) -> Tensor:
        """B `[inputs, outputs]` for a ridge above 0."""
        gram = self.x @ self.x.T
        shifted = gram.clone()
        shifted.diagonal().add_(ridge * gram.diagonal().sum() / self.x.shape[1])
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if failed:
            fitted = _Eigen(gram, self.x.shape[1])
            of_tokens = fitted.vectors @ ((fitted.vectors.T @ self.y) / fitted.weights(ridge)[:, None])
        else:
            of_tokens = torch.cholesky_solve(self.y, factor)
        solution: Tensor = self.x.T @ of_tokens
        return solution


class _Eigen:
    """The eigenvectors of a Gram matrix `[tokens, tokens]`."""

    def __init__(self, gram: Tensor, inputs: int) -> None:
        self._scale = float(gram.diagonal().sum()) / inputs
        self._values, self.vectors = torch.linalg.eigh(gram)

    def weights(self, ridge: float) -> Tensor:
        """What is divided by along each eigenvector; without end along those that x does not have."""
        least = torch.finfo(torch.float64).eps * self._values[-1].clamp_min(0) * len(self._values)
        return torch.where(self._values > least, self._values + ridge * self._scale, math.inf)
