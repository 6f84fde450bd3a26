"""One linear map in place of the layers above the bottom one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from pydantic import Field

from swm.fitting.products import fit_products
from swm.fitting.refitting import Change, fit_change
from swm.fitting.working_bytes import fit_bytes
from swm.interfaces.merger import LayerMerger, LayerWindow
from swm.interfaces.work import Work
from swm.memory.pieces import MadeRows
from swm.mergers.down_projection import down_projection_fit
from swm.model.state import State
from swm.model.view import ModelView


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

    def working_bytes(self, model: ModelView, tokens: int) -> int:
        return fit_bytes(model.config.hidden_size, model.config.hidden_size, self.ridge, tokens)

    def work(self, model: ModelView, tokens: int) -> Work:
        hidden = model.config.hidden_size
        products = fit_products(tokens, hidden, hidden, searches_ridge=False)
        return Work(passes=3 / len(model.layers), products=products)

    def merge(self, window: LayerWindow) -> State:
        own = window.states[0]
        fit = down_projection_fit(window)
        weight, bias = fit.projection.weight, fit.projection.bias
        output = MadeRows(len(fit.inputs), lambda rows: fit.projection.output(fit.inputs[rows]))
        change = fit_change(output, fit.missing, bias=False, ridge=self.ridge, fold=2).weight
        added = None if bias is None else bias.double() @ change
        return fit.changed(own, Change(weight.double() @ change, added, self.ridge, None))
