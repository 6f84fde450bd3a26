"""ExpertMerger: what becomes of the experts of a layer that go."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from swm.interfaces.strategy import Strategy
from swm.interfaces.width import RoutingStatistics
from swm.shown.values import short_repr


@dataclass(frozen=True)
class ExpertChoice:
    """The experts of one layer, `count` of them, of which the `kept` stay; `routing` says what their router did.

    `layer` is the number that the layer has in the original model.
    """

    layer: int
    count: int
    kept: Sequence[int]
    routing: RoutingStatistics

    __repr__ = short_repr


class ExpertMerger(Strategy):
    """Says of which experts each one that stays is made; it changes nothing."""

    kind: ClassVar[str] = "expert-merger"

    @abstractmethod
    def shares(self, choice: ExpertChoice) -> Tensor:
        """The shares `[kept, experts]` with which all experts make up each that stays; each row adds up to 1."""

    def aligns(self) -> bool:
        """Whether the channels of merged experts are first brought into the order of those of the one that stays."""
        return False
