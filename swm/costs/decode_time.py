"""The cost of decoding a token, as a share of what it takes in the original model."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Self

import torch

from swm.costs.cost import Conditions, CostUnit, ModelCost
from swm.costs.decode_table import DecodeTable
from swm.errors import FamilyError, RecipeError
from swm.model.layer import Layer
from swm.model.units import Block, Part
from swm.model.view import ModelView

# Tokens before the one that is timed, where the limit does not say how many.
CONTEXT = 256
TIMED: tuple[Part, ...] = ("attention", "queries", "mlp", "expert_channels")


class DecodeCost(ModelCost):
    """Predicted from a table of layers: the sum over layers, less what units save that are gone, and the head."""

    linear: ClassVar[bool] = False

    def __init__(self, view: ModelView, dense: ModelView, times: DecodeTable) -> None:
        super().__init__(view)
        self._dense, self._times = dense, times

    @cached_property
    def _whole(self) -> float:
        layers = sum(self._times.layer(position) for position in range(len(self._dense.layers)))
        return layers + self._times.head(self._dense.vocabulary)

    @property
    def total(self) -> float:
        return sum(self.layers) + self._times.head(self.view.vocabulary) / self._whole

    def layer(self, position: int) -> float:
        number, now = self.view.numbers[position], self.view.layer(position)
        if any(self.view.replaced):
            raise RecipeError("how long other modules take in place of projections is not measured")
        before = self._dense.layer(number)
        gone = {part: _units(before, part) - _units(now, part) for part in TIMED}
        # Query heads go with their KV head.
        if gone.get("attention"):
            gone.pop("queries", None)
        saved = sum(self._times.units(number, part, count) for part, count in gone.items() if count)
        return max(self._times.layer(number) - saved, 0.0) / self._whole

    def block(self, position: int, part: Block, parameters: int) -> float:
        raise RecipeError(
            "how long a layer takes without its attention or its MLP is not measured; use a target in memory, params "
            "or ratio, or remove whole layers or units"
        )

    def units(self, layer: Layer, part: Part, gone: int) -> float:
        if part not in TIMED:
            return 0.0
        before = self._dense.layer(layer.number).units(part)
        already = before - layer.units(part)
        times = [self._times.units(layer.number, part, count) for count in (already, already + gone)]
        return max(times[1] - times[0], 0.0) / self._whole


def _units(layer: Layer, part: Part) -> int:
    """How many units a part has; none where the family's row does not say."""
    try:
        return layer.units(part)
    except FamilyError:
        return 0


@dataclass(frozen=True)
class DecodeTime(CostUnit):
    """The time of one token after `context` others, in times of what it is in the model `dense`."""

    noun: ClassVar[str] = "of the dense decode time"
    whole: ClassVar[str] = "the decode time"

    asked: ClassVar[tuple[str, ...]] = ("context", "dtype")

    context: int
    dtype: torch.dtype
    dense: ModelView = field(repr=False, compare=False)

    @classmethod
    def made(cls, conditions: Conditions) -> Self:
        return cls(conditions.context or CONTEXT, conditions.dtype, conditions.dense)

    def of(self, view: ModelView) -> ModelCost:
        return DecodeCost(view, self.dense, DecodeTable(self.dense, self.context, self.dtype))

    @staticmethod
    def number(amount: float) -> str:
        return f"{amount:.1%}"
