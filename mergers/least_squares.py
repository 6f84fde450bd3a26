"""The bottom layer, its down projection refitted so that the layer gives what the window gave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Final, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from swm.fitting.products import fit_products
from swm.fitting.projection import Projection
from swm.fitting.refitting import Change, by_length, fit_change, lengths_of
from swm.fitting.working_bytes import fit_bytes, widest
from swm.interfaces.merger import LayerMerger, LayerWindow
from swm.interfaces.work import Work
from swm.memory.pieces import MadeRows, Rows, norm_of, pieces_of
from swm.mergers.down_projection import BIAS, DownProjectionFit, down_projection_fit
from swm.model.state import State
from swm.model.view import ModelView

OUT: Final = "attention.o"


@final
@dataclass(frozen=True)
class LeastSquares(LayerMerger):
    """Ridge regression of the bottom layer's down projection, and its bias where it has one, toward the window's end.

    `argmin sum_t c_t ||x_t W' + y_t - l_t||^2 + ridge s ||W' - W||^2` over calibration tokens t: x is what enters the
    projection in the compressed model so far, y the rest of the layer's output, l the original model's hidden state at
    the window's end, s the mean of the diagonal of `sum c x'x`. `c = 1/||l||^2` where `relative`, else 1. Without
    `ridge`, the best of a grid is taken on every `fold`-th sample, which is left out for that. The first `skip_first`
    tokens of a sample do not count.

    With `attention.o` among the `projections`, both are fitted jointly first, what enters the MLP taken as it is; the
    attention's new output changes it, so the down projection is fitted once more to what then enters it; kept where
    less is missing than with the down projection alone.
    """

    name: ClassVar[str] = "least-squares"
    needs_activations: ClassVar[bool] = True

    ridge: Annotated[float, Field(ge=0)] | None = None
    relative: bool = True
    skip_first: Annotated[int, Field(ge=0)] = 0
    fold: Annotated[int, Field(ge=2)] = 5
    projections: Annotated[Sequence[Literal["attention.o", "mlp.down"]], Field(min_length=1)] = ("mlp.down",)

    def __post_init__(self) -> None:
        if "mlp.down" not in self.projections:
            raise ValueError(f"projections need mlp.down, found {', '.join(self.projections)}")

    def working_bytes(self, model: ModelView, tokens: int) -> int:
        inputs = sum(widest(model, role) for role in {*self.projections})
        return fit_bytes(inputs, model.config.hidden_size, self.ridge, tokens)

    def lighter(self, model: ModelView, tokens: int) -> Mapping[str, int]:
        given = replace(self, ridge=0.01)
        return {} if self.ridge is not None else {"ridge: 0.01": given.working_bytes(model, tokens)}

    def work(self, model: ModelView, tokens: int) -> Work:
        inputs, hidden = sum(widest(model, role) for role in {*self.projections}), model.config.hidden_size
        fits = 3 if OUT in self.projections else 1
        runs = Work(passes=3 * fits / len(model.layers))
        return runs + Work(products=fits * fit_products(tokens, inputs, hidden, self.ridge is None))

    def merge(self, window: LayerWindow) -> State:
        own, fit = window.states[0], down_projection_fit(window)
        alone = self._down(window, own, fit)
        if OUT not in self.projections:
            return alone
        changed = self.attention(window, fit)
        joint = self._down(window, changed, down_projection_fit(window, changed))
        return min(joint, alone, key=lambda state: self._error(window, state))

    def _down(self, window: LayerWindow, state: State, fit: DownProjectionFit) -> State:
        return fit.changed(state, self._change(window, fit.inputs, fit, bias=BIAS in state))

    def _error(self, window: LayerWindow, state: State) -> float:
        activations = window.required_activations()
        wanted = activations.leaving()
        given, total = activations.run(state), 0.0
        for rows in pieces_of(wanted):
            missing = given[rows] - wanted[rows]
            missing = missing * by_length(wanted[rows]) if self.relative else missing
            total += float(missing[:, self.skip_first :].double().square().sum())
        return total

    def attention(self, window: LayerWindow, fit: DownProjectionFit) -> State:
        """The bottom layer's state with the attention's part of the joint fit; as it is where it has no attention."""
        own = window.states[0]
        if f"{OUT}.weight" not in own:
            return own
        heads, channels = window.required_activations().inputs(OUT, None), fit.inputs.shape[-1]
        # One ridge for both: the inputs of the two are of different sizes.
        size = _typical(fit.inputs) / max(_typical(heads), 1e-12)
        both = MadeRows(len(heads), lambda rows: torch.cat([fit.inputs[rows], heads[rows] * size], dim=-1))
        change = self._change(window, both, fit, bias=False)
        projection = Projection.of(own, OUT, fit.projection.transposed)
        return {**own, **projection.changed(replace(change, weight=change.weight[channels:] * size)).state()}

    def _change(self, window: LayerWindow, inputs: Rows, fit: DownProjectionFit, *, bias: bool) -> Change:
        """The change of projections with these inputs that gives what is missing.

        Args:
            window: The layers.
            inputs: What enters the projections, side by side, `[samples, seq, channels]`.
            fit: What is missing.
            bias: Whether the bias may change too.
        """
        counted = slice(self.skip_first, None)
        leaving = window.required_activations().leaving()
        return fit_change(
            MadeRows(len(inputs), lambda rows: inputs[rows][:, counted]),
            MadeRows(len(inputs), lambda rows: fit.missing[rows][:, counted]),
            lengths_of(leaving[:, counted]) if self.relative else None,
            bias=bias,
            ridge=self.ridge,
            fold=self.fold,
        )


def _typical(values: Tensor) -> float:
    """The root of the mean square."""
    return norm_of(values) / math.sqrt(max(1, values.numel()))
