"""Work: about how much a stage computes, from which its time is estimated before it begins."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace

# A layer whose gradients are taken is run, and then takes about twice that time to go back through.
WITH_GRADIENTS = 3


@dataclass(frozen=True)
class Work:
    """About how much is computed, in units that do not depend on the machine.

    `passes` is how often all of the calibration text goes through all layers; with gradients, a pass counts as
    `WITH_GRADIENTS`. `scores` is how often next-token scores of all of it are made, counted alike. `tokens` of other
    text go through all layers and get scores. `products` are multiplications in float64 beside all that, of fits.
    `seconds` pass on any machine.
    """

    passes: float = 0.0
    scores: float = 0.0
    tokens: float = 0.0
    products: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def of_part(self, part: float) -> Work:
        """The same with this part of the calibration text in place of all of it."""
        return replace(self, passes=self.passes * part, scores=self.scores * part)

    def __mul__(self, times: float) -> Work:
        return Work(*(times * value for value in astuple(self)))
