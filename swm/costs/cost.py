"""What a model costs whoever runs it, in one unit, and what of it goes with a layer, a sub-block or a unit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import torch

from swm.errors import FamilyError
from swm.model.layer import Layer
from swm.model.units import Block, Part
from swm.model.view import ModelView

PARTS: tuple[Part, ...] = ("attention", "queries", "mlp", "experts", "expert_channels")


class ModelCost(ABC):
    """What a model as it is costs in one unit. It needs no weights; ask again after a change of it."""

    linear: ClassVar[bool] = True
    """Whether so many units save so many times as much as one."""

    def __init__(self, view: ModelView) -> None:
        self.view = view

    @property
    @abstractmethod
    def total(self) -> float:
        """What the whole model costs."""

    @abstractmethod
    def layer(self, position: int) -> float:
        """What goes with the layer there."""

    @abstractmethod
    def block(self, position: int, part: Block, parameters: int) -> float:
        """What goes with a sub-block of the layer there, which has so many parameters."""

    @abstractmethod
    def units(self, layer: Layer, part: Part, gone: int) -> float:
        """What goes with so many units of a part."""

    @cached_property
    def layers(self) -> tuple[float, ...]:
        """What goes with each of the layers."""
        return tuple(self.layer(position) for position in range(len(self.view.layers)))

    def lowering(self) -> list[Part]:
        """The parts of which units can go so that the cost falls."""
        return [part for part in PARTS if any(self._lowers(self.view.layer(i), part) for i in range(len(self.layers)))]

    def _lowers(self, layer: Layer, part: Part) -> bool:
        try:
            return bool(layer.units(part)) and self.units(layer, part, 1) > 0
        except FamilyError:
            return False


@dataclass(frozen=True)
class Conditions:
    """What a cost may depend on: the tokens that a cache holds, sequences, the type of the weights, the dense model."""

    context: int | None
    batch: int
    dtype: torch.dtype
    dense: ModelView


class CostUnit(ABC):
    """A unit in which a target can be said."""

    noun: ClassVar[str]
    whole: ClassVar[str]
    """What is lowered, in words."""
    asked: ClassVar[tuple[str, ...]] = ()
    """What of `context`, `batch` and `dtype` it depends on."""

    @classmethod
    @abstractmethod
    def made(cls, conditions: Conditions) -> Self:
        """The unit under these conditions."""

    @property
    def per_parameter(self) -> float | None:
        """What a parameter costs of which all tokens make use; None where it is not parameters that cost."""
        return None

    @abstractmethod
    def of(self, view: ModelView) -> ModelCost:
        """What a model costs."""

    @staticmethod
    @abstractmethod
    def number(amount: float) -> str:
        """An amount for people, without the noun."""

    def written(self, amount: float) -> str:
        """An amount for people."""
        return f"{self.number(amount)} {self.noun}"
