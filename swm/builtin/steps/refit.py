"""RefitStep: fitted weights take the place of what a projection held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from swm.errors import PlanError
from swm.interfaces.stage import Step
from swm.model.ranges import format_ranges
from swm.model.surgery import refit_projection
from swm.model.view import ModelView


@final
@dataclass(frozen=True)
class RefitStep(Step):
    """The projection of that canonical name in the layer with this original number gets the fitted weights."""

    name: ClassVar[str] = "refit"

    layer: int
    projection: str

    def apply(self, view: ModelView, tensors: Mapping[str, Tensor]) -> None:
        if self.layer not in view.numbers:
            raise PlanError(f"step refits layer {self.layer}; the model has layers {format_ranges(view.numbers)}")
        if not tensors:
            raise PlanError(
                f"the weights fitted for {self.projection} of layer {self.layer} are missing; keep the .safetensors "
                "file beside the plan file"
            )
        refit_projection(view, view.numbers.index(self.layer), self.projection, tensors)

    def describe(self) -> str:
        return f"layer {self.layer}: refit {self.projection}"

    def alike(self) -> tuple[int, str]:
        return self.layer, f"refit {self.projection}"
