"""The MLP neurons of several layers as one pool, of which any set can stand in one layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from swm.errors import WindowError
from swm.fitting.projection import Projection
from swm.fitting.refitting import fit_change
from swm.interfaces.merger import LayerWindow
from swm.memory.pieces import MadeRows
from swm.mergers.down_projection import BIAS, DOWN
from swm.model.state import State


def read_as_before(window: LayerWindow, start: State, transposed: bool, fold: int) -> list[State]:
    """Each layer's MLP, reading what the bottom layer's MLP reads with the parameters `start`.

    What it read in the original model is replaced by the linear function of that which comes nearest, folded into its
    weights, and into its biases where it has any.

    Args:
        window: The layers.
        start: The bottom layer's state, its attention refitted.
        transposed: Whether the family stores its weights as `[in, out]`.
        fold: Every so many samples are left out to choose the ridge.
    """
    activations = window.required_activations()
    role = readers(start)[0]
    entering = activations.inputs(role, start)
    bias = f"{role}.bias" in start
    states: list[State] = []
    for own, original in zip(window.states, activations.originals(role), strict=True):
        change = fit_change(entering, _difference(original, entering), bias=bias, ridge=None, fold=fold)
        mapped = dict(own)
        for reader in readers(start):
            projection = Projection.of(own, reader, transposed)
            weight = projection.weight.double()
            added = None if change.bias is None else change.bias @ weight
            mapped |= projection.changed(replace(change, weight=change.weight @ weight, bias=added)).state()
        states.append(mapped)
    return states


def check_one_kind(window: LayerWindow) -> None:
    """Raise WindowError unless the MLPs of all layers have the bottom layer's parameters."""
    own, *others = [{k: v.shape for k, v in state.items() if k.startswith("mlp.")} for state in window.states]
    if any(other != own for other in others):
        raise WindowError("have MLPs of different kinds, so their neurons cannot stand in one of them")


def _difference(one: Tensor, other: Tensor) -> MadeRows:
    return MadeRows(len(one), lambda rows: one[rows] - other[rows])


def readers(state: State) -> list[str]:
    """The projections through which an MLP reads, by canonical name."""
    weights = [key.removesuffix(".weight") for key in state if key.startswith("mlp.") and key.endswith(".weight")]
    return [role for role in weights if f"{role}.weight" != DOWN]


@dataclass(frozen=True)
class Neurons:
    """A pool of neurons; a layer has room for `wanted` of them and is else as `start`.

    `writes` `[count, hidden]` are their rows of the output projection, float32, `reads` by parameter what they read
    with, `[blocks, count, fan]`, and `bias` what all of their layers' output projections add, float64.
    """

    start: State
    transposed: bool
    wanted: int
    writes: Tensor
    reads: Mapping[str, Tensor]
    bias: Tensor | None

    @classmethod
    def of(cls, start: State, layers: Sequence[State], transposed: bool) -> Neurons:
        """Those of these layers, in order."""
        wanted = start[DOWN].shape[0 if transposed else 1]

        def blocks(key: str, value: Tensor) -> Tensor:
            # A projection may make gates and values, one block of rows after the other.
            rows = value[:, None] if key.endswith("bias") else value if not transposed else value.T
            return rows.reshape(-1, wanted, rows.shape[1])

        writes = [layer[DOWN] if transposed else layer[DOWN].T for layer in layers]
        keys = [f"{role}.{kind}" for role in readers(start) for kind in ("weight", "bias")]
        reads = {key: torch.cat([blocks(key, layer[key]) for layer in layers], dim=1) for key in keys if key in start}
        bias = torch.stack([layer[BIAS].double() for layer in layers]).sum(0) if BIAS in start else None
        return cls(start, transposed, wanted, torch.cat(writes).float(), reads, bias)

    @property
    def count(self) -> int:
        return len(self.writes)

    def chosen(self, units: Tensor) -> Neurons:
        """The pool of these neurons alone."""
        reads = {key: blocks[:, units] for key, blocks in self.reads.items()}
        return replace(self, writes=self.writes[units], reads=reads)

    def states(self) -> list[State]:
        """Layers whose neurons are, together and in order, those of the pool; it must fill them."""
        return [self._state(units) for units in torch.split(torch.arange(self.count), self.wanted)]

    def _state(self, units: Tensor) -> dict[str, Tensor]:
        state = dict(self.start)
        for key, blocks in self.reads.items():
            rows = blocks[:, units.to(blocks.device)].flatten(0, 1)
            value = rows[:, 0] if key.endswith("bias") else rows.T if self.transposed else rows
            state[key] = value.to(self.start[key].dtype).contiguous()
        return state

    def prior(self) -> Tensor:
        """What the neurons write in their own layers, `[count, hidden]`, and a last row for the bias, float64."""
        own = self.writes.double()
        return own if self.bias is None else torch.cat([own, self.bias.double()[None]])

    def layer(self, kept: Tensor, writes: Tensor) -> State:
        """The layer with these neurons; `writes` is as `prior`, of what is kept alone."""
        units = kept[: self.wanted]
        state = self._state(units)
        down = writes[: self.wanted].to(self.start[DOWN].dtype)
        state[DOWN] = (down if self.transposed else down.T).contiguous()
        if self.bias is not None:
            state[BIAS] = writes[self.wanted].to(self.start[BIAS].dtype)
        return state
