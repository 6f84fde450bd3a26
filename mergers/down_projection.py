"""The down projection of a window's bottom layer, and what it lacks so that the layer gives what the window gave."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from swm.errors import WindowError
from swm.fitting.projection import Projection
from swm.fitting.refitting import Change
from swm.interfaces.merger import LayerWindow
from swm.memory.pieces import MadeRows, Rows, norm_of
from swm.model.state import State

ROLE: Final = "mlp.down"
DOWN, BIAS = f"{ROLE}.weight", f"{ROLE}.bias"


@dataclass(frozen=True)
class DownProjectionFit:
    """What to fit the down projection to: its `inputs` `[samples, seq, channels]`, and what is `missing`.

    `missing` `[samples, seq, hidden]` is the window's output less the layer's.
    """

    projection: Projection
    inputs: Tensor
    missing: Rows

    def changed(self, own: State, change: Change) -> State:
        """The layer's state `own` with this change added to the projection."""
        return {**own, **self.projection.changed(change).state()}


@torch.no_grad()
def down_projection_fit(window: LayerWindow, state: State | None = None) -> DownProjectionFit:
    """What the bottom layer's down projection sees, and what it should add so that the layer gives what the window did.

    `state` takes the place of the bottom layer's own parameters.
    Raises PlanError where there are no activations, and WindowError where the bottom layer has no such projection or
    changes its output before adding it (a norm behind the MLP, a gate of a shared expert).
    """
    activations = window.required_activations()
    if DOWN not in window.states[0]:
        raise WindowError("cannot be fitted: the lowest one has no mlp.down that the family row names")
    own = window.states[0] if state is None else state
    silent: State = {k: torch.zeros_like(v) if k in (DOWN, BIAS) else v for k, v in own.items()}
    inputs, rest, now = activations.inputs(ROLE, state), activations.run(silent), activations.run(own)
    bias = own[BIAS] if BIAS in own else torch.zeros_like(rest[0, 0])

    def distance(transposed: bool) -> float:
        """How far the layer is from the sum of its MLP output and the rest, if its weights are stored this way."""
        weight = Projection.of(own, ROLE, transposed).weight
        if weight.shape != (inputs.shape[-1], rest.shape[-1]):
            return math.inf
        apart = norm_of(MadeRows(len(now), lambda rows: rest[rows] + inputs[rows] @ weight + bias - now[rows]))
        return apart / max(norm_of(now), 1e-12)

    # A square weight does not tell by its shape which way it is stored.
    transposed = distance(True) < distance(False)
    if distance(transposed) > 1e-2:
        raise WindowError(
            "cannot be fitted in closed form: the lowest one does not add what its mlp.down gives as it is (a norm, a "
            "gate or experts stand behind it); delete and distilled take such layers"
        )
    leaving = activations.leaving()
    missing = MadeRows(len(now), lambda rows: leaving[rows] - now[rows])
    return DownProjectionFit(Projection.of(own, ROLE, transposed), inputs, missing)
