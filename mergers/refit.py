"""What the mergers that refit a projection share: the tokens they fit on, and what the layer gives without its MLP."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from swm.errors import FamilyError
from swm.interfaces.merger import LayerWindow
from swm.model.state import State

DOWN = "mlp.down.weight"
BIAS = "mlp.down.bias"


@dataclass(frozen=True)
class Fit:
    """What to fit on: `inputs` `[samples, seq, channels]` of the down projection, `weight` `[channels, hidden]`.

    `missing` `[samples, seq, hidden]` is what the layer lacks of what the window gave. `transposed` tells that the
    family stores its weights as `[in, out]`.
    """

    inputs: Tensor
    weight: Tensor
    missing: Tensor
    transposed: bool

    def changed(self, own: State, weight: Tensor, bias: Tensor | None) -> State:
        """The layer's state with these changes, `[channels, hidden]` and `[hidden]`, added to the projection."""
        new = self.weight.double() + weight
        result = {**own, DOWN: (new if self.transposed else new.T).to(own[DOWN].dtype).contiguous()}
        if bias is not None:
            result[BIAS] = (own[BIAS].double() + bias).to(own[BIAS].dtype)
        return result


@torch.no_grad()
def fit_of(window: LayerWindow, state: State | None = None) -> Fit:
    """What the bottom layer's down projection sees, and what it should add so that the layer gives what the window did.

    `state` takes the place of the bottom layer's own parameters.
    Raises FamilyError for a layer that changes the projection's output before adding it (a norm behind the MLP), and
    PlanError where there are no activations.
    """
    activations = window.required_activations()
    own = window.states[0] if state is None else state
    silent: State = {k: torch.zeros_like(v) if k in (DOWN, BIAS) else v for k, v in own.items()}
    inputs, rest, now = activations.inputs("mlp.down", state), activations.run(silent), activations.run(own)
    bias = own[BIAS] if BIAS in own else torch.zeros_like(rest[0, 0])

    def off(transposed: bool) -> float:
        """How far the layer is from the sum of its MLP output and the rest, if its weights are stored this way."""
        weight = own[DOWN] if transposed else own[DOWN].T
        if weight.shape != (inputs.shape[-1], rest.shape[-1]):
            return math.inf
        return float((rest + inputs @ weight + bias - now).norm()) / max(float(now.norm()), 1e-12)

    # A square weight does not tell by its shape which way it is stored.
    transposed = off(True) < off(False)
    if off(transposed) > 1e-2:
        raise FamilyError(
            "layers of this family normalise what their MLP gives, so no projection of theirs can be refitted in "
            "closed form; use a merger that needs no activations"
        )
    return Fit(inputs, own[DOWN] if transposed else own[DOWN].T, activations.leaving() - now, transposed)
