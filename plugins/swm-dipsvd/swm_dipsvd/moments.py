"""What the calibration text tells of one projection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Need = Literal["gram", "mean_absolute", "squared_gradients"]


@dataclass(frozen=True)
class Moments:
    """Statistics in float64 of a projection with `n` inputs; those that the whitening does not need are None.

    With `x` `[tokens, n]` what enters the projection: `gram` `[n, n]` is `xᵀ x`, `mean_absolute` `[n]` the mean over
    tokens of `|x|`. `squared_gradients` `[n]` is the mean over outputs and samples of the squared gradient of a
    sample's loss by the weight.
    """

    inputs: int
    gram: Tensor | None = None
    mean_absolute: Tensor | None = None
    squared_gradients: Tensor | None = None
