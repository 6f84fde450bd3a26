"""MergeStep: a window of layers becomes one layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from torch import Tensor

from swm.depth.fitting import check_state, merged_state
from swm.errors import PlanError
from swm.interfaces.merger import LayerMerger, surviving_layer
from swm.interfaces.pieces import WindowStep
from swm.model.ranges import format_ranges, parse_ranges
from swm.model.state import State
from swm.model.surgery import merge_layers, positions
from swm.model.view import ModelView
from swm.model.windows import Window


@final
@dataclass(frozen=True)
class MergeStep(WindowStep):
    """The layers with these original numbers become one, in the module of the layer `survivor`."""

    name: ClassVar[str] = "merge"

    layers: str
    survivor: int
    merger: LayerMerger
    keep: Literal["bottom", "top"] | None = None

    def __post_init__(self) -> None:
        try:
            parse_ranges(self.layers)
        except PlanError as error:
            raise ValueError(f"layers: {error}") from None

    @classmethod
    def of(cls, view: ModelView, window: Window, merger: LayerMerger) -> MergeStep:
        members = format_ranges(view.numbers[window.first : window.last + 1])
        return cls(members, view.numbers[surviving_layer(merger, window)], merger, window.keep)

    def apply(self, view: ModelView, tensors: Mapping[str, Tensor]) -> None:
        members = positions(view, parse_ranges(self.layers))
        adjacent = len(members) > 1 and members[-1] - members[0] == len(members) - 1
        if not adjacent or self.survivor not in [view.numbers[i] for i in members]:
            raise PlanError(
                f"step merges layers {self.layers} into {self.survivor}, one of several adjacent ones; "
                f"the model has layers {format_ranges(view.numbers)}"
            )
        merge_layers(view, members, view.numbers.index(self.survivor), self._state(view, members, tensors))

    def _state(self, view: ModelView, members: Sequence[int], tensors: Mapping[str, Tensor]) -> State:
        # Tensors beside a plan whose merger needs none are those of another plan.
        if not self.merger.needs_activations:
            return merged_state(view, members, self.merger, self.keep)
        if not tensors:
            raise PlanError(
                f"merger '{self.merger.name}' of layers {self.layers} needs the tensors fitted with the plan; "
                "keep the .safetensors file beside the plan file"
            )
        return check_state(self.merger, view, view.numbers.index(self.survivor), tensors)

    def describe(self) -> str:
        gone = self.removed_layers()
        if gone:
            return f"remove layer{'s' if len(gone) > 1 else ''} {format_ranges(gone)}"
        return f"merge layers {self.layers} into one ({self.merger.name}, in place of layer {self.survivor})"

    def removed_layers(self) -> Sequence[int]:
        if not self.merger.deletes:
            return ()
        return [layer for layer in parse_ranges(self.layers) if layer != self.survivor]

    def merged_layers(self) -> tuple[int, Sequence[int]] | None:
        return None if self.merger.deletes else (self.survivor, parse_ranges(self.layers))

    def told(self) -> dict[str, Any]:
        gone = self.removed_layers()
        return {"remove": {"layers": format_ranges(gone)}} if gone else super().told()

    def to_plan(self) -> dict[str, Any]:
        values: dict[str, Any] = super().to_plan()
        return {key: value for key, value in values.items() if value is not None}
