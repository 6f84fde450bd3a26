"""Merging by a formula for all projections, and a policy for the norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from swm.errors import WindowError
from swm.interfaces.merger import LayerWindow
from swm.model.state import State, is_norm

Norms = Literal["bottom", "top", "mean"]
Formula = Callable[[Sequence[Tensor]], Tensor]


def bottom(values: Sequence[Tensor]) -> Tensor:
    """The lowest layer's tensor itself."""
    return values[0]


def top(values: Sequence[Tensor]) -> Tensor:
    """The highest layer's tensor itself."""
    return values[-1]


def mean(values: Sequence[Tensor]) -> Tensor:
    """The arithmetic mean."""
    return torch.stack(list(values)).mean(dim=0)


_NORMS: dict[Norms, Formula] = {"bottom": bottom, "top": top, "mean": mean}


def merge_by_formula(
    window: LayerWindow, projection: Formula, norms: Norms, biases: Literal["merged", "bottom"] | None = None
) -> State:
    """Apply a formula to the weights and biases of all projections, and the policy to the norms.

    Arithmetic is in float32 at least; results keep the dtype. A function that picks a tensor returns that very
    tensor, so that nothing is copied.

    Args:
        window: The layers to merge.
        projection: Makes one tensor of those of all layers, bottom first.
        norms: Which layer's norms stay, or their mean.
        biases: `bottom` keeps the bottom layer's biases, anything else applies the formula to them.
    """
    states = window.states
    check_combinable(window)

    def formula(key: str) -> Formula:
        if is_norm(key):
            return _NORMS[norms]
        return bottom if biases == "bottom" and key.endswith(".bias") else projection

    return {key: _combine([state[key] for state in states], formula(key)) for key in states[0]}


def check_combinable(window: LayerWindow) -> None:
    """Raise WindowError where no formula for projections gives one layer.

    That is where the layers have other parameters than each other, and where they have matrices that the family row
    does not name (experts, routers, recurrent mixers): those of one layer would stand beside the projections of others.
    """
    first = window.states[0]
    for state in window.states[1:]:
        for key in sorted(first.keys() | state.keys()):
            if key not in first or key not in state or first[key].shape != state[key].shape:
                name = key.removeprefix("norms.")
                raise WindowError(f"are of different kinds ({name}), so weights cannot be combined")
    unnamed = [key.removeprefix("norms.") for key, value in first.items() if is_norm(key) and value.dim() > 1]
    if unnamed:
        raise WindowError(
            f"have matrices that the family row does not name ({unnamed[0]}), so weights cannot be combined"
        )


def _combine(values: Sequence[Tensor], formula: Formula) -> Tensor:
    if formula in (bottom, top):
        return formula(values)
    kind = torch.promote_types(values[0].dtype, torch.float32)
    return formula([value.to(values[0].device, kind) for value in values]).to(values[0].dtype)
