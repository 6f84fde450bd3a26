"""LayerMerger: several adjacent layers into one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from torch import Tensor

from swm.interfaces.strategy import Strategy
from swm.model.state import State
from swm.model.windows import End


@dataclass(frozen=True)
class LayerWindow:
    """The layers of one window, bottom first.

    `states` are their parameters under canonical names (`attention.q.weight`, `mlp.down.bias`,
    `norms.<path>.weight`), the tensors of the model itself: never write to them. `keep` is the end that the
    depth pruner means to survive, if it has an opinion. `entering` and `leaving` give the hidden states
    `[samples, seq, hidden]` that enter the window in the compressed model so far and that leave it in the
    original one; `run(state)` gives what the bottom layer makes of those that enter with other parameters, and
    `inputs(role, state)` what enters its projection of that canonical name (`mlp.down`), `[samples, seq, channels]`,
    with its own parameters where the state is None. `run_some(samples, state)` is `run` on samples of these numbers
    alone, with gradients where they are enabled; `inputs_of(batch, role, state)` is `inputs` of the samples
    `rows[batch]`. `originals(role)` gives, layer by layer, what enters that projection of each of the window's layers
    in the original model. All of these are available to mergers that declare `needs_activations`.
    """

    states: Sequence[State]
    keep: End | None = None
    entering: Callable[[], Tensor] | None = None
    leaving: Callable[[], Tensor] | None = None
    run: Callable[[State], Tensor] | None = None
    inputs: Callable[[str, State | None], Tensor] | None = None
    rows: Sequence[slice] = ()
    run_some: Callable[[Tensor, State], Tensor] | None = None
    inputs_of: Callable[[int, str, State | None], Tensor] | None = None
    originals: Callable[[str], Iterator[Tensor]] | None = None


class LayerMerger(Strategy):
    """Turns a window into one layer. Pure: it returns tensors and changes none."""

    kind: ClassVar[str] = "merger"
    needs_activations: ClassVar[bool] = False

    @abstractmethod
    def merge(self, window: LayerWindow) -> State:
        """One state with the keys, shapes and dtypes of `window.states[0]`. Input tensors may be returned."""

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
