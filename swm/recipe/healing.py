"""Healing: a stage that removes its target in rounds, and the stages that give back after each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field


@dataclass(frozen=True)
class Healing:
    """A stage in rounds: each removes a part of the target, and then `stages` give back what they can.

    `every` is what a round removes, in the unit of the target: 2 of `target: {layers: 6}`, 0.05 of `{ratio: 0.2}`; the
    last round removes what is left. Or `rounds` is how many equal parts there are, of any target or of the recipe's
    budget. Each round scores the model as the one before left it. `stages` are any that remove nothing, by default
    `repair`. What they may spend in all (`seconds`, `steps`) is split among the rounds in equal parts.
    """

    every: Annotated[int | float, Field(gt=0)] | None = None
    rounds: Annotated[int, Field(ge=1, le=1000)] | None = None
    stages: Annotated[Sequence[Any], Field(min_length=1)] | None = None

    def __post_init__(self) -> None:
        if (self.every is None) == (self.rounds is None):
            said = "nothing" if self.every is None else "both"
            raise ValueError(
                f"heal needs either every, what a round removes, or rounds, how many equal parts; found {said}"
            )
