"""LayerMerger: several adjacent layers into one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from torch import Tensor

from swm.errors import PlanError
from swm.interfaces.activations import WindowActivations
from swm.interfaces.strategy import Strategy
from swm.interfaces.work import Work
from swm.model.state import State
from swm.model.view import ModelView
from swm.model.windows import End, Window
from swm.shown.values import short_repr


@dataclass(frozen=True)
class LayerWindow:
    """The layers of one window, bottom first.

    `states` are their parameters under canonical names (`attention.q.weight`, `mlp.down.bias`,
    `norms.<path>.weight`), the tensors of the model itself: never write to them. `keep` is the end that the
    depth pruner means to survive, if it has an opinion. `activations` are there for mergers that declare
    `needs_activations`; each of their methods can be called on the window too, and is None where there are none.
    """

    states: Sequence[State]
    keep: End | None = None
    activations: WindowActivations | None = None

    __repr__ = short_repr

    def required_activations(self) -> WindowActivations:
        """The activations. Raises PlanError where there are none."""
        if self.activations is None:
            raise PlanError("this merger needs activations, and there are none here")
        return self.activations

    @property
    def rows(self) -> Sequence[slice]:
        """See `WindowActivations.rows`; empty where there are no activations."""
        return () if self.activations is None else self.activations.rows

    @property
    def entering(self) -> Callable[[], Tensor] | None:
        """See `WindowActivations.entering`."""
        return None if self.activations is None else self.activations.entering

    @property
    def leaving(self) -> Callable[[], Tensor] | None:
        """See `WindowActivations.leaving`."""
        return None if self.activations is None else self.activations.leaving

    @property
    def run(self) -> Callable[[State], Tensor] | None:
        """See `WindowActivations.run`."""
        return None if self.activations is None else self.activations.run

    @property
    def run_some(self) -> Callable[[Tensor, State], Tensor] | None:
        """See `WindowActivations.run_some`."""
        return None if self.activations is None else self.activations.run_some

    @property
    def inputs(self) -> Callable[[str, State | None], Tensor] | None:
        """See `WindowActivations.inputs`."""
        return None if self.activations is None else self.activations.inputs

    @property
    def inputs_of(self) -> Callable[[int, str, State | None], Tensor] | None:
        """See `WindowActivations.inputs_of`."""
        return None if self.activations is None else self.activations.inputs_of

    @property
    def originals(self) -> Callable[[str], Iterator[Tensor]] | None:
        """See `WindowActivations.originals`."""
        return None if self.activations is None else self.activations.originals


class LayerMerger(Strategy):
    """Turns a window into one layer. Pure: it returns tensors and changes none."""

    kind: ClassVar[str] = "merger"
    needs_activations: ClassVar[bool] = False
    deletes: ClassVar[bool] = False
    """Whether one layer of the window stays as it is and the others are left out, which single attentions and MLPs can
    be too."""

    @abstractmethod
    def merge(self, window: LayerWindow) -> State:
        """One state with the keys, shapes and dtypes of `window.states[0]`. Input tensors may be returned."""

    def working_bytes(self, model: ModelView, tokens: int) -> int:
        """Bytes that a fit to so many tokens needs beside a layer and a batch, whatever lies in files.

        `model` has no weights.
        """
        return 0

    def lighter(self, model: ModelView, tokens: int) -> Mapping[str, int]:
        """Settings with which it needs fewer `working_bytes`, as a recipe has them, and how many; for an error."""
        return {}

    def work(self, model: ModelView, tokens: int) -> Work:
        """About how much a fit of one window to so many tokens computes; `model` has no weights.

        A pass is one through all layers; see `Work`.
        """
        return Work()

    def survivor(self, keep: End | None) -> End:
        """Whose module, with all that is no weight (such as sliding or full attention), carries the result.

        `keep` is the pruner's opinion, see `LayerWindow`.
        """
        return "bottom"

    def as_released(self) -> LayerMerger:
        """The merger as the released code of its paper has it, for a depth pruner that is used as released."""
        return self


@dataclass(frozen=True)
class WeightMerger(LayerMerger):
    """A merger by one formula for all projections.

    `biases: merged` takes it for their biases too, `bottom` keeps those of the bottom layer, as the released code does,
    which moves weights only. Left out, it is `bottom` under a depth pruner that is used as released, else `merged`.
    """

    biases: Literal["merged", "bottom"] | None = field(default=None, kw_only=True)

    def as_released(self) -> LayerMerger:
        return replace(self, biases=self.biases or "bottom")

    def spec(self) -> dict[str, Any]:
        values = super().spec()
        return {key: value for key, value in values.items() if key != "biases" or value is not None}


def surviving_layer(merger: LayerMerger, window: Window) -> int:
    """The layer of the window whose module carries the result."""
    return window.first if merger.survivor(window.keep) == "bottom" else window.last


def remaining_layers(merger: LayerMerger, windows: Sequence[Window], layers: int) -> list[int]:
    """The positions of the layers whose modules remain, out of `layers`, once these windows are merged."""
    members = {i for window in windows for i in range(window.first, window.last + 1)}
    gone = members - {surviving_layer(merger, window) for window in windows}
    return [position for position in range(layers) if position not in gone]
