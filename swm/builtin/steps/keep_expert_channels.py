"""The step of a width plan that makes experts narrower: which channels of each of them stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import Tensor

from swm.errors import PlanError
from swm.interfaces.pieces import UnitStep
from swm.model.expert_channels import keep_expert_channels
from swm.model.layer import Layer
from swm.model.ranges import format_ranges, parse_ranges
from swm.model.units import Part
from swm.model.view import ModelView


@final
@dataclass(frozen=True)
class KeepExpertChannelsStep(UnitStep):
    """Of the `of` channels of each expert of the layer with this original number, those in `units` stay.

    `units` has a line for each expert that the layer has by then, of each as many channels.
    """

    name: ClassVar[str] = "keep-expert-channels"
    parts: ClassVar[frozenset[Part]] = frozenset({"expert_channels"})

    layer: int
    units: Sequence[str]
    of: int

    def __post_init__(self) -> None:
        try:
            kept = [parse_ranges(row) for row in self.units]
        except PlanError as error:
            raise ValueError(f"units: {error}") from None
        if len({len(row) for row in kept}) != 1 or not kept[0]:
            raise ValueError(f"step must keep as many channels of each expert of layer {self.layer}, at least one")
        for row, text in zip(kept, self.units, strict=True):
            if row[-1] >= self.of:
                raise ValueError(f"step keeps channels {text} of an expert of layer {self.layer}; there are {self.of}")

    @classmethod
    def keeping(cls, layer: Layer, part: Part, units: Sequence[Any]) -> KeepExpertChannelsStep:
        rows = tuple(map(format_ranges, units))
        return cls(layer.number, rows, layer.units(part))

    def apply(self, view: ModelView, tensors: Mapping[str, Tensor]) -> None:
        if self.layer not in view.numbers:
            raise PlanError(f"step cuts layer {self.layer}; the model has layers {format_ranges(view.numbers)}")
        position = view.numbers.index(self.layer)
        have = view.layer(position).units("expert_channels")
        if have != self.of:
            raise PlanError(f"step expects {self.of} channels of each expert in layer {self.layer}; there are {have}")
        keep_expert_channels(view, position, [parse_ranges(row) for row in self.units])

    def describe(self) -> str:
        return f"layer {self.layer}: {self._shown()}"

    def alike(self) -> tuple[int, str]:
        return self.layer, self._shown()

    def _shown(self) -> str:
        return f"keep {len(parse_ranges(self.units[0]))} of {self.of} channels of each expert"
