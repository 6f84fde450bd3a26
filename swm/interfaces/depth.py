"""DepthPruner: which layers go."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor

from swm.errors import BudgetError, PlanError
from swm.interfaces.strategy import Strategy
from swm.model.windows import Window, check_windows
from swm.shown.values import short_repr


class DepthContext(Protocol):
    """What a depth pruner may ask. Layers are positions 0 to `layers - 1` in the model as it is now.

    All answers come from the calibration text, are cached, and never change the model.
    """

    layers: int
    target: int | None
    """How many layers to remove, or None when the pruner decides by a threshold."""
    seed: int
    sizes: Sequence[float] | None
    """What goes with each position, in the unit of the target; None where positions are counted, or go alike.

    A pruner that ranks positions of different sizes compares what each costs for what goes with it.
    """

    def removable(self, layers: Sequence[int]) -> bool:
        """Whether these layers can go together: a config of the model's class says that just the others remain.

        A pruner that ranks layers passes over those that cannot go. This needs no numbers.
        """

    def trial(self, windows: Sequence[Window], above: float | None = None) -> float:
        """Similarity of the model with these windows merged to the original model, at the model's end.

        With `above`, no more of the text is run than it takes to tell whether the similarity is above that: an answer
        that is not above may be a bound, which the similarity does not exceed.
        """

    def loss(self, windows: Sequence[Window]) -> float:
        """Mean next-token cross entropy in nats of the model with these windows merged."""

    def compare(self, lower: int, upper: int) -> float:
        """Similarity of the hidden states entering layer `lower` and layer `upper` (up to `layers`, the end)."""

    def hidden(self, layer: int) -> Iterator[Tensor]:
        """What enters layer `layer` (up to `layers`, the end), batch by batch: `[samples, seq, hidden]`, all tokens.

        They come in the order of the text, in the type that the model computes in. The text is run once and all states
        are kept, in memory or in files; the batches are copies.
        """

    def local(self, window: Window) -> float:
        """Similarity of what leaves a merged window to what left its last layer, on top of what was committed.

        It costs one layer instead of all above. Not a number where the similarity compares next-token scores.
        """

    def commit(self, windows: Sequence[Window]) -> None:
        """Tell that the following trials build on these windows, so that their activations are kept."""


def required_target(context: DepthContext) -> int:
    """How many layers to remove. Raises BudgetError where the pruner was given no target."""
    if context.target is None:
        raise BudgetError("this depth pruner removes as many layers as its target says, and it was given none")
    return context.target


@dataclass(frozen=True)
class DepthProposal:
    """The windows of a depth pruner and the numbers it wants in the report (a threshold, scores)."""

    windows: Sequence[Window]
    facts: Mapping[str, Any] = field(default_factory=dict)

    __repr__ = short_repr


class DepthPruner(Strategy):
    """Chooses disjoint windows of layers; how each becomes one layer is the merger's business.

    A pruner that spares the ends of the model has parameters `protect_first` and `protect_last`.
    """

    kind: ClassVar[str] = "depth"
    default_similarity: ClassVar[str | Mapping[str, Any] | None] = None
    default_merger: ClassVar[str | Mapping[str, Any] | None] = None
    """What the pruner's paper uses; None is the default of the kind."""
    compares_layers: ClassVar[bool] = False
    """Whether `propose` calls `DepthContext.compare`, which no similarity of next-token scores can answer."""
    asks_losses: ClassVar[bool] = False
    """Whether `propose` calls `DepthContext.loss`, which takes next-token scores of the whole text each time."""
    only_layers: ClassVar[str] = ""
    """Why the pruner makes no sense on single attentions and MLPs (`unit` of the stage); empty where it does."""
    protect_first: int = 0
    protect_last: int = 0

    @abstractmethod
    def propose(self, context: DepthContext) -> DepthProposal:
        """The windows to merge."""

    def proposed(self, context: DepthContext) -> DepthProposal:
        """What `propose` gives. Raises PlanError where that is something else, or names layers that are not there."""
        proposal: object = self.propose(context)
        if not isinstance(proposal, DepthProposal):
            gave = type(proposal).__name__
            raise PlanError(f"depth pruner '{self.name}' returned a {gave}; propose() gives a DepthProposal of windows")
        try:
            check_windows(proposal.windows, context.layers)
        except PlanError as error:
            raise PlanError(f"depth pruner '{self.name}': {error.message}") from None
        return proposal

    def is_released(self) -> bool:
        """Whether the pruner does as the released code of its paper, quirks and all; its merger then does so too."""
        return False

    def uses_target(self) -> bool:
        """Whether `target` decides how much goes; False when a parameter of the strategy does."""
        return True

    def capacity(self, layers: int) -> int:
        """The most layers that the strategy can remove out of `layers`."""
        return min(layers - 1, layers - self.protect_first - self.protect_last)

    def effort(self, layers: int, target: int | None) -> int | None:
        """About how many trials `propose` takes, for the progress bar; None when nobody can say."""
        return None

    def guessed_trials(self, layers: int, target: int | None) -> int:
        """As `effort`, with a guess where nobody can say, for an estimate of the time."""
        return self.effort(layers, target) or 0
