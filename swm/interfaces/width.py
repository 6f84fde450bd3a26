"""WidthPruner: which heads and channels go."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

from torch import Tensor

from swm.errors import PlanError
from swm.interfaces.strategy import Strategy
from swm.model.units import Part

Need = Literal["gradients", "squared_gradients", "inputs"]
T = TypeVar("T")


@dataclass(frozen=True)
class InputStatistics:
    """Statistics over all calibration tokens of what enters a projection, one value a channel (float32)."""

    mean: Tensor
    mean_absolute: Tensor
    mean_square: Tensor
    tokens: int

    @property
    def variance(self) -> Tensor:
        """The variance of each channel over tokens (divisor: the number of tokens)."""
        return (self.mean_square - self.mean.square()).clamp_min(0)


@dataclass(frozen=True)
class CoupledWeight:
    """One of the matrices that lose a channel together, seen channel by channel.

    `weight` is `[channels, fan]`: rows of a projection that writes the channels, columns of the one that reads them
    (`reads` is True for that one). `gradient` and `squared_gradient` have the same shape when the pruner needs them,
    in float32 where the weight is float16. Channels of one unit lie next to each other.
    """

    name: str
    weight: Tensor
    reads: bool
    gradient: Tensor | None = None
    squared_gradient: Tensor | None = None

    @property
    def required_gradient(self) -> Tensor:
        """`gradient`. Raises PlanError where the pruner's `needs` does not name gradients."""
        return _needed(self.gradient, "gradients")

    @property
    def required_squared_gradient(self) -> Tensor:
        """`squared_gradient`. Raises PlanError where the pruner's `needs` does not name squared gradients."""
        return _needed(self.squared_gradient, "squared_gradients")


@dataclass(frozen=True)
class UnitGroup:
    """The units of one part of one layer: KV heads with their query heads, single query heads, or MLP channels.

    `layer` is the number that the layer has in the original model. `inputs` are the statistics of what enters the
    projection that reads the channels (the attention output or MLP down projection), for pruners that need them.
    """

    layer: int
    part: Part
    units: int
    weights: Sequence[CoupledWeight]
    inputs: InputStatistics | None = None

    @property
    def required_inputs(self) -> InputStatistics:
        """`inputs`. Raises PlanError where the pruner's `needs` does not name inputs."""
        return _needed(self.inputs, "inputs")

    @property
    def reader(self) -> CoupledWeight:
        """The projection that reads the channels."""
        return next(weight for weight in self.weights if weight.reads)

    def per_unit(self, channels: Tensor, reduce: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Fold `[channels]` to `[units]`: the sum over a unit's channels, or what `reduce` makes of the last axis."""
        grouped = channels.reshape(self.units, -1)
        return grouped.sum(dim=1) if reduce is None else reduce(grouped)


class WidthPruner(Strategy):
    """Gives each unit a score; it does not plan, round, cut, save or verify."""

    kind: ClassVar[str] = "width"
    standardised: ClassVar[bool] = False
    """Whether scores of different layers and parts may be compared as they are (for `scope: global`)."""

    @abstractmethod
    def score(self, group: UnitGroup) -> Tensor:
        """Importance `[units]` of the group's units, higher is kept. Finite."""

    def needs(self) -> frozenset[Need]:
        """What the scores are computed from besides the weights; nothing by default."""
        return frozenset()

    def compensates(self) -> bool:
        """Whether what the removed units contributed on average goes into a bias of the reading projection."""
        return False


def _needed(value: T | None, need: Need) -> T:
    if value is None:
        raise PlanError(f"a width pruner reads '{need}', which its needs() does not name")
    return value
