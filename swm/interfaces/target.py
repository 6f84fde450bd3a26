"""How much to remove, said once, in the unit that the user thinks in: for a stage, or for the whole recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from swm.errors import BudgetError, RecipeError
from swm.model.shape import ModelShape


@dataclass(frozen=True)
class Target:
    """What to remove, exactly one: `layers`, `params`, `experts` or `blocks` (numbers), `ratio` (of all parameters).

    `experts` go from each layer that has some; `blocks` are attentions and MLPs.
    """

    layers: Annotated[int, Field(ge=1)] | None = None
    params: Annotated[int, Field(ge=1)] | None = None
    ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    experts: Annotated[int, Field(ge=1)] | None = None
    blocks: Annotated[int, Field(ge=1)] | None = None

    def __post_init__(self) -> None:
        names = ("layers", "params", "ratio", "experts", "blocks")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            said = " and ".join(given) or "nothing"
            raise ValueError(f"target needs exactly one of {', '.join(names)}; found {said}")

    def __str__(self) -> str:
        return next(f"{k}: {v}" for k, v in vars(self).items() if v is not None)

    def parameters(self, original: ModelShape) -> float:
        """The number of parameters to remove; for a target in layers that of average ones.

        Raises RecipeError for a target in experts or blocks, whose size depends on the model.
        """
        if self.blocks is not None:
            raise RecipeError(
                "blocks are removed by a depth stage with unit: attention, mlp or any; use ratio or params"
            )
        if self.experts is not None:
            raise RecipeError("experts are removed by a width stage with units: [experts] alone; use ratio or params")
        if self.layers is not None:
            return self.layers * mean(original.layer_parameters)
        if self.params is not None:
            return self.params
        return (self.ratio or 0.0) * original.parameters

    def whole_layers(self, original: ModelShape, current: ModelShape, capacity: int, who: str) -> int:
        """The nearest number of whole layers, at least one.

        Args:
            original: The model before the first stage, of which a ratio is taken.
            current: The model as it is.
            capacity: How many layers can go.
            who: The name of the depth pruner, for the message.

        Raises:
            BudgetError: The depth pruner cannot remove that many of the current layers.
        """
        each = mean(current.layer_parameters)
        count = self.layers if self.layers is not None else max(1, round(self.parameters(original) / each))
        if count > capacity:
            most = max(0, capacity)
            raise BudgetError(
                f"target {self} asks to remove {count} of {current.layers} layers; '{who}' can remove at most "
                f"{most} here ({most * each / original.parameters:.1%} of the parameters)"
            )
        return count


def mean(values: tuple[int, ...]) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)
