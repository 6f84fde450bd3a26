"""The bottom layer, its down projection refitted so that the layer gives what the window gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from pydantic import Field

from swm.interfaces.merger import LayerMerger, LayerWindow, State
from swm.mergers.refit import BIAS, fit_of
from swm.refitting import by_length, fit_change


@final
@dataclass(frozen=True)
class LeastSquares(LayerMerger):
    """Ridge regression of the bottom layer's down projection, and its bias where it has one, toward the window's end.

    `argmin sum_t c_t ||x_t W' + y_t - l_t||^2 + ridge s ||W' - W||^2` over calibration tokens t: x is what enters the
    projection in the compressed model so far, y the rest of the layer's output, l the original model's hidden state at
    the window's end, s the mean of the diagonal of `sum c x'x`. `c = 1/||l||^2` where `relative`, else 1. Without
    `ridge`, the best of a grid is taken on every `fold`-th sample, which is left out for that. The first `skip_first`
    tokens of a sample do not count.
    """

    name: ClassVar[str] = "least-squares"
    needs_activations: ClassVar[bool] = True

    ridge: Annotated[float, Field(ge=0)] | None = None
    relative: bool = True
    skip_first: Annotated[int, Field(ge=0)] = 0
    fold: Annotated[int, Field(ge=2)] = 5

    def merge(self, window: LayerWindow) -> State:
        own, fit = window.states[0], fit_of(window)
        assert window.leaving is not None
        counted = slice(self.skip_first, None)
        change = fit_change(
            fit.inputs[:, counted],
            fit.missing[:, counted],
            by_length(window.leaving()[:, counted]) if self.relative else None,
            bias=BIAS in own,
            ridge=self.ridge,
            fold=self.fold,
        )
        return fit.changed(own, change.weight, change.bias)
