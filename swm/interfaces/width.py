"""WidthPruner: which heads and channels go."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

from torch import Tensor

from swm.errors import PlanError, RecipeError, listed
from swm.interfaces.strategy import Strategy
from swm.model.units import Part
from swm.shown.values import short_repr

Need = Literal["gradients", "squared_gradients", "inputs", "routing"]
CHANNELS: frozenset[Part] = frozenset({"attention", "queries", "mlp"})
T = TypeVar("T")


@dataclass(frozen=True)
class InputStatistics:
    """Statistics over all calibration tokens of what enters a projection, one value a channel (float32)."""

    mean: Tensor
    mean_absolute: Tensor
    mean_square: Tensor
    tokens: int

    __repr__ = short_repr

    @property
    def variance(self) -> Tensor:
        """The variance of each channel over tokens (divisor: the number of tokens)."""
        return (self.mean_square - self.mean.square()).clamp_min(0)


@dataclass(frozen=True)
class RoutingStatistics:
    """What the router of a layer did with the calibration tokens, one value an expert (float64).

    `routed` counts the tokens that an expert was given, of `tokens` in all, each of which takes several experts.
    `output` sums, over those tokens, the L2 norm of what the expert added to the layer: its output times the router's
    weight. `agreement` `[experts, experts]` holds the cosine, over all tokens, of what the router scores two experts,
    less the mean of the token's scores; it is None where the router is called in a way that is not known.
    """

    tokens: int
    routed: Tensor
    output: Tensor
    agreement: Tensor | None = None

    __repr__ = short_repr

    @property
    def required_agreement(self) -> Tensor:
        """`agreement`. Raises PlanError where it is not known."""
        if self.agreement is None:
            raise PlanError("a router is called in a way that is not known, so it cannot say which experts are alike")
        return self.agreement

    @property
    def share(self) -> Tensor:
        """The share of all tokens that each expert was given."""
        return self.routed / self.tokens

    @property
    def mean_output(self) -> Tensor:
        """The mean of what an expert added to a token that it was given; 0 for one that was given none."""
        return self.output / self.routed.clamp_min(1)


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

    __repr__ = short_repr

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
    """The units of one part of one layer: KV heads with their query heads, query heads, channels, or experts.

    `layer` is the number that the layer has in the original model. `inputs` are the statistics of what enters the
    projection that reads the channels (the attention output or MLP down projection), for pruners that need them.
    Of experts, each weight has one channel that holds all numbers of an expert, and none of the weights reads;
    `routing` says what their router did, for pruners that need it. Channels of routed experts come as a group for each
    `expert`, like those of an MLP; `inputs` are over the tokens that it was given.
    """

    layer: int
    part: Part
    units: int
    weights: Sequence[CoupledWeight]
    inputs: InputStatistics | None = None
    routing: RoutingStatistics | None = None
    expert: int | None = None

    __repr__ = short_repr

    @property
    def required_routing(self) -> RoutingStatistics:
        """`routing`. Raises PlanError where the pruner's `needs` does not name routing."""
        return _needed(self.routing, "routing")

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
    parts: ClassVar[frozenset[Part]] = CHANNELS
    """The parts of a layer whose units it can score."""
    standardised: ClassVar[bool] = False
    """Whether scores of different layers and parts may be compared as they are (for `scope: global`)."""

    @abstractmethod
    def score(self, group: UnitGroup) -> Tensor:
        """Importance `[units]` of the group's units, higher is kept. Finite."""

    def check_parts(self, parts: Sequence[Part]) -> None:
        """Raise RecipeError for a part whose units it cannot score."""
        foreign = [part for part in parts if part not in self.parts]
        if foreign:
            raise RecipeError(f"width pruner '{self.name}' scores {listed(sorted(self.parts))}, not {foreign[0]}")

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
