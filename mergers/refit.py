"""What the mergers that refit a projection share: the samples they fit on, and what the layer gives without its MLP."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from swm.errors import FamilyError, PlanError
from swm.interfaces.merger import LayerWindow, State

DOWN = "mlp.down.weight"
BIAS = "mlp.down.bias"


@dataclass(frozen=True)
class Fit:
    """Tokens to fit on, float64: `inputs` `[tokens, channels]` of the down projection, `weight` `[channels, hidden]`.

    `wanted` `[tokens, hidden]` is what the projection should give (without its bias), `given` what it gives now.
    `transposed` tells that the family stores its weights as `[in, out]`.
    """

    inputs: Tensor
    weight: Tensor
    wanted: Tensor
    transposed: bool

    @property
    def given(self) -> Tensor:
        return self.inputs @ self.weight

    def stored(self, weight: Tensor, like: Tensor) -> Tensor:
        """A weight `[channels, hidden]` in the form and dtype of the layer's own."""
        return (weight if self.transposed else weight.T).to(like.dtype).contiguous()


@torch.no_grad()
def fit_of(window: LayerWindow, skip_first: int) -> Fit:
    """What the bottom layer's down projection sees and should give, so that the layer gives what the window did.

    Raises FamilyError for a layer that changes the projection's output before adding it (a norm behind the MLP).
    """
    if window.inputs is None or window.run is None or window.leaving is None:
        raise PlanError("this merger needs activations, and there are none here")
    own = window.states[0]
    silent: State = {k: torch.zeros_like(v) if k in (DOWN, BIAS) else v for k, v in own.items()}
    inputs, rest, now = (
        _tokens(x, skip_first) for x in (window.inputs("mlp.down"), window.run(silent), window.run(own))
    )
    bias = own[BIAS].double() if BIAS in own else torch.zeros(rest.shape[1], dtype=torch.float64, device=rest.device)

    def off(transposed: bool) -> float:
        """How far the layer is from the sum of its MLP output and the rest, if its weights are stored this way."""
        weight = own[DOWN].double() if transposed else own[DOWN].double().T
        if weight.shape != (inputs.shape[1], rest.shape[1]):
            return math.inf
        return float((rest + inputs @ weight + bias - now).norm() / now.norm())

    # A square weight does not tell by its shape which way it is stored.
    transposed = off(True) < off(False)
    if off(transposed) > 1e-2:
        raise FamilyError(
            "layers of this family normalise what their MLP gives, so no projection of theirs can be refitted in "
            "closed form; use a merger that needs no activations"
        )
    weight = own[DOWN].double() if transposed else own[DOWN].double().T
    wanted = _tokens(window.leaving(), skip_first) - rest - bias
    return Fit(inputs, weight, wanted, transposed)


def _tokens(x: Tensor, skip_first: int) -> Tensor:
    return x[:, skip_first:].flatten(0, 1).double()
