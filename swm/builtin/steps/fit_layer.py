"""FitLayerStep: fitted parameters take the place of all that a layer held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from swm.errors import PlanError
from swm.interfaces.stage import Step
from swm.model.ranges import format_ranges
from swm.model.surgery import put_values
from swm.model.view import ModelView


@final
@dataclass(frozen=True)
class FitLayerStep(Step):
    """The layer with this original number gets fitted parameters, of the shapes that its own have."""

    name: ClassVar[str] = "fit-layer"

    layer: int

    def apply(self, view: ModelView, tensors: Mapping[str, Tensor]) -> None:
        if self.layer not in view.numbers:
            raise PlanError(f"step fits layer {self.layer}; the model has layers {format_ranges(view.numbers)}")
        position = view.numbers.index(self.layer)
        own = view.state(position)
        if not tensors:
            raise PlanError(
                f"the parameters fitted for layer {self.layer} are missing; keep the .safetensors file beside the plan "
                "file"
            )
        for key, value in tensors.items():
            if key not in own or own[key].shape != value.shape:
                shape = tuple(own[key].shape) if key in own else "none"
                raise PlanError(f"layer {self.layer}: {key} fitted as {tuple(value.shape)}; the model has {shape}")
        for key, value in tensors.items():
            put_values(view, position, key, value)

    def describe(self) -> str:
        return f"layer {self.layer}: fit all parameters"

    def alike(self) -> tuple[int, str]:
        return self.layer, "fit all parameters"
