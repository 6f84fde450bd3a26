"""The step that makes one expert of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from swm.errors import PlanError
from swm.interfaces.stage import Step
from swm.model.expert_surgery import average_experts
from swm.model.ranges import format_ranges, parse_ranges
from swm.model.view import ModelView


@final
@dataclass(frozen=True)
class MergeExpertsStep(Step):
    """In the layer with this original number, an expert becomes the mean of the `members`, weighted by `shares`.

    `aligned` says that the channels of the others are first matched with those of the expert.
    """

    name: ClassVar[str] = "merge-experts"

    layer: int
    expert: int
    members: str
    shares: Sequence[float]
    aligned: bool = False

    def __post_init__(self) -> None:
        try:
            members = parse_ranges(self.members)
        except PlanError as error:
            raise ValueError(f"members: {error}") from None
        if len(members) != len(self.shares):
            raise ValueError(f"members: {self.members} are {len(members)}, and there are {len(self.shares)} shares")
        if abs(sum(self.shares) - 1) > 1e-4 or min(self.shares, default=0) < 0:
            raise ValueError(f"shares: {list(self.shares)} must be 0 or more and add up to 1")

    def apply(self, view: ModelView, tensors: Mapping[str, Tensor]) -> None:
        if self.layer not in view.numbers:
            raise PlanError(f"step merges experts of layer {self.layer}; the model has {format_ranges(view.numbers)}")
        shares = dict(zip(parse_ranges(self.members), self.shares, strict=True))
        average_experts(view, view.numbers.index(self.layer), self.expert, shares, self.aligned)

    def describe(self) -> str:
        return f"layer {self.layer}: expert {self.expert} becomes the mean of {self.members}{self._order()}"

    def _order(self) -> str:
        return ", their channels matched" if self.aligned else ""
