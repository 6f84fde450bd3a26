"""Projection: the weight and bias of a projection, seen channel by channel however the family stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from swm.fitting.refitting import Change, fit_without


@dataclass(frozen=True)
class Projection:
    """The parameters of a projection: `weight` `[channels, outputs]`, and `bias` `[outputs]` or None.

    `role` is its canonical name. With `transposed` the family stores the weight as it is here, otherwise as
    `[outputs, channels]`.
    """

    role: str
    weight: Tensor
    bias: Tensor | None
    transposed: bool

    @classmethod
    def of(cls, state: Mapping[str, Tensor], role: str, transposed: bool) -> Projection:
        """The projection of that role in a layer's state; its tensors share memory with those of the state."""
        weight = state[f"{role}.weight"]
        return cls(role, weight if transposed else weight.T, state.get(f"{role}.bias"), transposed)

    def output(self, inputs: Tensor) -> Tensor:
        """What the projection makes of inputs `[.., channels]`."""
        product = inputs @ self.weight
        return product if self.bias is None else product + self.bias

    def state(self) -> dict[str, Tensor]:
        """Its parameters by canonical name, laid out as the family stores them."""
        state = {f"{self.role}.weight": (self.weight if self.transposed else self.weight.T).contiguous()}
        if self.bias is not None:
            state[f"{self.role}.bias"] = self.bias
        return state

    def changed(self, change: Change) -> Projection:
        """The projection with the change added to it."""
        return Projection(self.role, _sum(self.weight, change.weight), self._changed_bias(change), self.transposed)

    def refitted_without(self, removed: Tensor, inputs: Tensor, ridge: float | None = None) -> Projection:
        """The projection of the other channels alone, refitted to give what it gives with all of them.

        It is a ridge regression toward the present weights.

        Args:
            removed: Which channels go, `[channels]`, bool.
            inputs: What enters the projection in the model as it is, `[samples, seq, channels]`.
            ridge: The strength; without one, the best of a grid on every fifth sample.
        """
        change = fit_without(inputs, self.weight, removed, bias=self.bias is not None, ridge=ridge)
        weight = _sum(self.weight[~removed], change.weight)
        return Projection(self.role, weight, self._changed_bias(change), self.transposed)

    def _changed_bias(self, change: Change) -> Tensor | None:
        return None if self.bias is None or change.bias is None else _sum(self.bias, change.bias)


def _sum(values: Tensor, change: Tensor) -> Tensor:
    """The sum in float64, rounded to the dtype of the values."""
    return (values.double() + change).to(values.dtype)
