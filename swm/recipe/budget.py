"""A budget for the whole recipe, split among its stages."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from swm.model.shape import ModelShape


@dataclass(frozen=True)
class Budget:
    """One target for all stages that name none: `ratio` of all parameters or `params`, a number. Exactly one.

    `depth_share` of it goes to the stages that remove layers or sub-blocks and nothing else, the rest to all others;
    what one stage removed too much or too little, the later ones make up for.
    """

    params: Annotated[int, Field(ge=1)] | None = None
    ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    depth_share: Annotated[float, Field(ge=0, le=1)] = 0.5

    def __post_init__(self) -> None:
        if (self.params is None) == (self.ratio is None):
            raise ValueError("budget needs exactly one of params, ratio")

    def parameters(self, original: ModelShape) -> float:
        """The number of parameters to remove in all."""
        return self.params if self.params is not None else (self.ratio or 0.0) * original.parameters

    def for_next(self, waiting: Sequence[Set[str]], original: ModelShape, removed: int) -> float:
        """The number of parameters that the first of the waiting stages is to remove.

        `waiting` says of each stage without a target so far, in order, what it removes: `layers`, other words, or both;
        `removed` parameters are gone already. A stage is given its kind's share of what is left.
        """
        left = self.parameters(original) - removed
        depth = [bool(kinds) and kinds <= {"layers", "blocks"} for kinds in waiting]
        layers = sum(depth)
        share, rest = self.depth_share / max(layers, 1), (1 - self.depth_share) / max(len(waiting) - layers, 1)
        weights = [share if alone else rest for alone in depth]
        total = sum(weights)
        return left * weights[0] / total if total > 0 else 0.0
