"""A ratio for each layer, given in the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from swm import RecipeError
from swm_dipsvd.allocation import Allocation, AllocationContext, Shares

# Published vectors are rounded to three places.
TOLERANCE = 0.005


@final
@dataclass(frozen=True)
class Vector(Allocation):
    """The kept ratio of every layer as the model has them at this stage; a bare list in a recipe means this.

    Their mean must be what the target keeps, to 0.005.
    """

    name: ClassVar[str] = "vector"

    ratios: Annotated[Sequence[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)]

    @classmethod
    def from_value(cls, value: Any) -> dict[str, Any] | None:
        return {"ratios": list(value)} if isinstance(value, list | tuple) else None

    def allocate(self, context: AllocationContext) -> Shares:
        return Shares(self.known(context.layers, context.kept))

    def known(self, layers: int, kept: float | None) -> Sequence[float]:
        if len(self.ratios) != layers:
            raise RecipeError(f"found {len(self.ratios)} ratios; the model has {layers} layers", ("ratios",))
        mean = sum(self.ratios) / layers
        if kept is not None and abs(mean - kept) > TOLERANCE:
            raise RecipeError(
                f"the ratios keep {mean:.4f} on average, the target keeps {kept:.4f}; "
                f"use block_ratio: {1 - mean:.4f}, or other ratios",
                ("ratios",),
            )
        return self.ratios
