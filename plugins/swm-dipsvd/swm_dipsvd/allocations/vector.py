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
# The rank that this ratio of a square matrix gives is its full one, so no ratio of any use is larger.
LARGEST = 2


@final
@dataclass(frozen=True)
class Vector(Allocation):
    """The kept ratio of every layer as the model has them at this stage; a bare list in a recipe means this.

    A layer with a ratio above 1, which the released search may give (up to 1.053 in its published vectors), stays
    whole: the ratio counts as 1, and the report says which one it was. The mean must then be what the target keeps, to
    0.005.
    """

    name: ClassVar[str] = "vector"

    ratios: Annotated[Sequence[Annotated[float, Field(gt=0, le=LARGEST)]], Field(min_length=1)]

    @classmethod
    def from_value(cls, value: Any) -> dict[str, Any] | None:
        return {"ratios": list(value)} if isinstance(value, list | tuple) else None

    def allocate(self, context: AllocationContext) -> Shares:
        ratios = self.known(context.layers, context.kept)
        clipped = {str(n): ratio for n, ratio in zip(context.view.numbers, self.ratios, strict=True) if ratio > 1}
        return Shares(ratios, {"clipped_to_one": clipped} if clipped else {})

    def known(self, layers: int, kept: float | None) -> Sequence[float]:
        if len(self.ratios) != layers:
            raise RecipeError(f"found {len(self.ratios)} ratios; the model has {layers} layers", ("ratios",))
        ratios = tuple(min(ratio, 1.0) for ratio in self.ratios)
        mean = sum(ratios) / layers
        if kept is not None and abs(mean - kept) > TOLERANCE:
            above = ", those above 1 counted as 1" if max(self.ratios) > 1 else ""
            raise RecipeError(
                f"the ratios keep {mean:.4f} on average{above}, the target keeps {kept:.4f}; "
                f"use block_ratio: {1 - mean:.4f}, or other ratios",
                ("ratios",),
            )
        return ratios
