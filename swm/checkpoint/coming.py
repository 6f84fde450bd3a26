"""What is known beforehand of how a model will be changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swm.model.units import Part


@dataclass(frozen=True)
class Coming:
    """What a stage will do: the parts that lose units, whether some layers lose more, or whole attentions or MLPs go.

    `biases` tells that projections get biases that they had not. The default is a model that stays as it is.
    """

    parts: Sequence[Part] = ()
    uneven: bool = False
    blocks: bool = False
    biases: bool = False
