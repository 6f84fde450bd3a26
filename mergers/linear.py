"""One linear map in place of the layers above the bottom one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from pydantic import Field

from swm.fitting.ridge import Sums, solve
from swm.interfaces.merger import LayerMerger, LayerWindow
from swm.mergers.refit import BIAS, fit_of
from swm.model.state import State


@final
@dataclass(frozen=True)
class Linear(LayerMerger):
    """The bottom layer, its MLP output mapped by the `[hidden, hidden]` T that is nearest to what the window gave.

    `T = argmin ||M T + Y - L||^2 + ridge s ||T - 1||^2` over calibration tokens, M the bottom layer's MLP output, Y the
    rest of its output, L the original model's hidden states at the window's end, s the mean of the diagonal of M'M; T
    is folded into the down projection and its bias. Source: ReplaceMe, arXiv 2505.02819, least squares; there ridge
    pulls toward 0.
    """

    name: ClassVar[str] = "linear"
    paper: ClassVar[str] = "https://arxiv.org/abs/2505.02819"
    needs_activations: ClassVar[bool] = True

    ridge: Annotated[float, Field(ge=0)] = 1e-4

    def merge(self, window: LayerWindow) -> State:
        own = window.states[0]
        fit = fit_of(window)
        output = fit.inputs.flatten(0, 1) @ fit.weight
        if BIAS in own:
            output += own[BIAS]
        change = solve(Sums.of(output, fit.missing.flatten(0, 1)), self.ridge)
        return fit.changed(own, fit.weight.double() @ change, own[BIAS].double() @ change if BIAS in own else None)
