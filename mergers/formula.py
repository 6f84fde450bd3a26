"""Merging by a formula for all projections, and a policy for the norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from swm.errors import WindowError
from swm.interfaces.merger import LayerWindow
from swm.memory.pieces import pieces
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
    """Apply a formula to the weights and biases of all projections, and the policy to the norms (see `norm_keys`).

    Arithmetic is in float32 at least; results keep the dtype. A function that picks a tensor returns that very
    tensor, so that nothing is copied.

    Args:
        window: The layers to merge.
        projection: Makes one tensor of those of all layers, bottom first; it treats every element alike.
        norms: Which layer's norms stay, or their mean.
        biases: `bottom` keeps the bottom layer's biases, anything else applies the formula to them.
    """
    states = window.states
    check_combinable(window)

    norm = norm_keys(states[0])

    def formula(key: str) -> Formula:
        if key in norm:
            return _NORMS[norms]
        return bottom if biases == "bottom" and key.endswith(".bias") else projection

    return {key: _combine([state[key] for state in states], formula(key)) for key in states[0]}


def norm_keys(state: State) -> set[str]:
    """The parameters of norms: those of a module that has vectors and nothing else.

    A matrix that the family row does not name (of experts, routers, recurrent mixers), and what stands beside or above
    one, is treated as a projection: so everything that a layer multiplies with comes from the same layers.
    """
    owners = {key.rpartition(".")[0] for key in state if is_norm(key)}
    others = {
        owner
        for owner in owners
        for key, value in state.items()
        if key.startswith(owner + ".") and (value.dim() > 1 or key.rpartition(".")[0] != owner)
    }
    return {key for key in state if is_norm(key) and key.rpartition(".")[0] not in others}


def check_combinable(window: LayerWindow) -> None:
    """Raise WindowError where the layers have other parameters than each other, so that no formula gives one layer."""
    first = window.states[0]
    for state in window.states[1:]:
        for key in sorted(first.keys() | state.keys()):
            if key not in first or key not in state or first[key].shape != state[key].shape:
                name = key.removeprefix("norms.")
                raise WindowError(f"are of different kinds ({name}), so weights cannot be combined")


def _combine(values: Sequence[Tensor], formula: Formula) -> Tensor:
    """What a formula, which treats every element alike, makes of tensors of one shape; some elements at a time."""
    if formula in (bottom, top):
        return formula(values)
    first, flat = values[0], [value.reshape(-1) for value in values]
    kind, result = torch.promote_types(first.dtype, torch.float32), torch.empty_like(flat[0])
    for part in pieces(len(result), len(values)):
        result[part] = formula([value[part].to(first.device, kind) for value in flat]).to(first.dtype)
    return result.view(first.shape)
