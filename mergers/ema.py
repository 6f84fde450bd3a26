"""An exponential moving average through the window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from pydantic import Field
from torch import Tensor

from swm.interfaces.merger import LayerWindow, WeightMerger
from swm.mergers.formula import Norms, merge_by_formula
from swm.model.state import State


@final
@dataclass(frozen=True)
class EMA(WeightMerger):
    """From the bottom up, `W = (1 - factor) W + factor W_i`.

    It is what the released SWM merge computes for a `weight_factor` between 0 (the bottom layer's projections) and 1
    (the top layer's, the released setting).
    """

    name: ClassVar[str] = "ema"

    factor: Annotated[float, Field(ge=0, le=1)] = 0.5
    norms: Norms = "bottom"

    def merge(self, window: LayerWindow) -> State:
        return merge_by_formula(window, self._moving, self.norms, self.biases)

    def _moving(self, values: Sequence[Tensor]) -> Tensor:
        result = values[0].clone()
        for value in values[1:]:
            result = (1 - self.factor) * result + self.factor * value
        return result
