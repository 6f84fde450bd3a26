"""The bottom layer, its down projection refitted so that the layer gives what the window gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from swm.interfaces.merger import LayerMerger, LayerWindow, State
from swm.mergers.refit import BIAS, fit_of
from swm.ridge import Ridge, Sums, solve


@final
@dataclass(frozen=True)
class LeastSquares(LayerMerger):
    """Ridge regression of the bottom layer's down projection, and its bias where it has one, toward the window's end.

    `argmin sum_t c_t ||x_t W' + y_t - l_t||^2 + ridge s ||W' - W||^2` over calibration tokens t: x is what enters the
    projection in the compressed model so far, y the rest of the layer's output, l the original model's hidden state at
    the window's end, s the mean of the diagonal of `sum c x'x`. `c = 1/||l||^2` where `relative`, else 1: attention
    sinks are a hundred times as long as other tokens, which need them to stay what they are. Without `ridge`, the best
    of a grid is taken on every `fold`-th sample, which is left out for that.
    """

    name: ClassVar[str] = "least-squares"
    needs_activations: ClassVar[bool] = True

    ridge: Annotated[float, Field(ge=0)] | None = None
    relative: bool = True
    skip_first: Annotated[int, Field(ge=0)] = 0
    fold: Annotated[int, Field(ge=2)] = 5

    def merge(self, window: LayerWindow) -> State:
        own = window.states[0]
        fit = fit_of(window)
        assert window.leaving is not None
        inputs, missing = fit.inputs, fit.missing
        if BIAS in own:
            inputs = torch.cat([inputs, torch.ones_like(inputs[..., :1])], dim=-1)
        if self.relative:
            scale = 1 / window.leaving().norm(dim=-1, keepdim=True).clamp_min(1e-12)
            inputs, missing = inputs * scale, missing * scale
        change = self._solve(inputs[:, self.skip_first :], missing[:, self.skip_first :])
        channels = fit.weight.shape[0]
        return fit.changed(own, change[:channels], change[channels] if BIAS in own else None)

    def _solve(self, inputs: Tensor, missing: Tensor) -> Tensor:
        """The change of the weight, `[channels, hidden]`, from `[samples, seq, ..]`."""

        if self.ridge is not None:
            return solve(Sums.of(inputs.flatten(0, 1), missing.flatten(0, 1)), self.ridge)
        held = torch.zeros(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
        if len(inputs) > 1:
            held[:: self.fold] = True
        else:
            held[:, -max(1, held.shape[1] // self.fold) :] = True
        training, left_out = (Sums.of(inputs[chosen], missing[chosen]) for chosen in (~held, held))
        return solve(training + left_out, Ridge(training).best(left_out))
