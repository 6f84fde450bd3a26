"""The step of a width plan: which units of a part stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from torch import Tensor

from swm.errors import PlanError
from swm.interfaces.pieces import UnitStep
from swm.model import torch_pruning as torch_pruning_backend
from swm.model.expert_surgery import keep_experts
from swm.model.layer import Layer
from swm.model.ranges import format_ranges, parse_ranges
from swm.model.units import UNIT_NAMES, Part
from swm.model.view import ModelView
from swm.model.width_surgery import cut_units, keep_units

Backend = Literal["native", "torch-pruning"]


@final
@dataclass(frozen=True)
class KeepStep(UnitStep):
    """Of the `of` units of a part of the layer with this original number, the `units` stay."""

    name: ClassVar[str] = "keep"
    parts: ClassVar[frozenset[Part]] = frozenset({"attention", "queries", "mlp", "experts"})

    layer: int
    part: Part
    units: str
    of: int
    backend: Backend = "native"

    def __post_init__(self) -> None:
        try:
            kept = parse_ranges(self.units)
        except PlanError as error:
            raise ValueError(f"units: {error}") from None
        if not kept:
            raise ValueError(f"step keeps no {self.part} unit of layer {self.layer}; at least one must stay")
        if kept[-1] >= self.of:
            raise ValueError(f"step keeps {self.part} units {self.units} of layer {self.layer}; there are {self.of}")

    @classmethod
    def keeping(cls, layer: Layer, part: Part, units: Sequence[Any]) -> KeepStep:
        return cls(layer.number, part, format_ranges(units), layer.units(part))

    def apply(self, view: ModelView, tensors: Mapping[str, Tensor]) -> None:
        if self.layer not in view.numbers:
            raise PlanError(f"step cuts layer {self.layer}; the model has layers {format_ranges(view.numbers)}")
        position = view.numbers.index(self.layer)
        have = view.layer(position).units(self.part)
        if have != self.of:
            raise PlanError(f"step expects {self.of} {self.part} units in layer {self.layer}; there are {have}")
        units = parse_ranges(self.units)
        if self.part == "experts":
            keep_experts(view, position, units)
            return
        cut = cut_units if self.backend == "native" else torch_pruning_backend.cut_units
        keep_units(view, position, self.part, units, tensors, cut)

    def to_plan(self) -> dict[str, Any]:
        values: dict[str, Any] = super().to_plan()
        if self.backend == "native":
            del values["backend"]
        return values

    def describe(self) -> str:
        kept = len(parse_ranges(self.units))
        return f"layer {self.layer}: keep {self._shown(kept)}"

    def alike(self) -> tuple[int, str]:
        return self.layer, f"keep {self._shown(len(parse_ranges(self.units)))}"

    def _shown(self, kept: int) -> str:
        return f"{kept} of {self.of} {UNIT_NAMES[self.part]}"
