"""One linear map in place of the layers above the bottom one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from pydantic import Field

from swm.interfaces.merger import LayerMerger, LayerWindow, State
from swm.mergers.refit import BIAS, DOWN, fit_of


@final
@dataclass(frozen=True)
class Linear(LayerMerger):
    """The bottom layer, its MLP output mapped by the `[hidden, hidden]` T that is nearest to what the window gave.

    `T = argmin ||M T + Y - L||^2 + ridge s ||T - 1||^2` over calibration tokens, M the bottom layer's MLP output, Y the
    rest of its output, L the original model's hidden states at the window's end, s the mean square of M; T is folded
    into the down projection and its bias. The first `skip_first` tokens of a sample do not count.
    Source: ReplaceMe, arXiv 2505.02819, least squares; there ridge pulls toward 0.
    """

    name: ClassVar[str] = "linear"
    paper: ClassVar[str] = "https://arxiv.org/abs/2505.02819"
    needs_activations: ClassVar[bool] = True

    ridge: Annotated[float, Field(ge=0)] = 1e-4
    skip_first: Annotated[int, Field(ge=0)] = 1

    def merge(self, window: LayerWindow) -> State:
        own = window.states[0]
        fit = fit_of(window, self.skip_first)
        bias = own[BIAS].double() if BIAS in own else 0.0
        output = fit.given + bias
        gram = output.T @ output
        gram.diagonal().add_(self.ridge * gram.diagonal().mean())
        change = torch.linalg.solve(gram, output.T @ (fit.wanted - fit.given))
        result = dict(own)
        result[DOWN] = fit.stored(fit.weight + fit.weight @ change, own[DOWN])
        if BIAS in own:
            result[BIAS] = (bias + bias @ change).to(own[BIAS].dtype)
        return result
