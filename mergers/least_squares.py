"""The bottom layer, its down projection refitted so that the layer gives what the window gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from swm.interfaces.merger import LayerMerger, LayerWindow, State
from swm.mergers.refit import BIAS, DOWN, fit_of

GRID = tuple(10.0**power for power in range(-6, 3))


@final
@dataclass(frozen=True)
class LeastSquares(LayerMerger):
    """Ridge regression of the bottom layer's down projection, and its bias where it has one, toward the window's end.

    `argmin ||X W' + Y - L||^2 + ridge s ||W' - W||^2` over calibration tokens: X is what enters the projection in the
    compressed model so far, Y the rest of the layer's output, L the original model's hidden states at the window's
    end, s the mean of the diagonal of X'X. Without `ridge`, the best of a grid is taken on every `fold`-th token, which
    is left out for that. The first `skip_first` tokens of a sample do not count: attention sinks have huge norms.
    """

    name: ClassVar[str] = "least-squares"
    needs_activations: ClassVar[bool] = True

    ridge: Annotated[float, Field(ge=0)] | None = None
    skip_first: Annotated[int, Field(ge=0)] = 1
    fold: Annotated[int, Field(ge=2)] = 5

    def merge(self, window: LayerWindow) -> State:
        own = window.states[0]
        fit = fit_of(window, self.skip_first)
        inputs, missing = fit.inputs, fit.wanted - fit.given
        if BIAS in own:
            inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)
        ridge = self._best_ridge(inputs, missing) if self.ridge is None else self.ridge
        change = _Solver(inputs, missing).change(ridge)
        result = dict(own)
        channels = fit.weight.shape[0]
        result[DOWN] = fit.stored(fit.weight + change[:channels], own[DOWN])
        if BIAS in own:
            result[BIAS] = (own[BIAS].double() + change[channels]).to(own[BIAS].dtype)
        return result

    def _best_ridge(self, inputs: Tensor, missing: Tensor) -> float:
        held = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
        held[:: self.fold] = True
        solver = _Solver(inputs[~held], missing[~held])
        return min(GRID, key=lambda ridge: float((missing[held] - inputs[held] @ solver.change(ridge)).square().sum()))


class _Solver:
    """The change of a weight for any ridge, from one eigendecomposition of the inputs' Gram matrix."""

    def __init__(self, inputs: Tensor, missing: Tensor) -> None:
        gram = inputs.T @ inputs
        self._scale = float(gram.diagonal().mean())
        self._values, self._vectors = torch.linalg.eigh(gram)
        self._right = self._vectors.T @ (inputs.T @ missing)

    def change(self, ridge: float) -> Tensor:
        floor = torch.finfo(torch.float64).eps * float(self._values[-1]) * len(self._values)
        weights = self._values.clamp_min(0) + max(ridge * self._scale, floor)
        return self._vectors @ (self._right / weights[:, None])
