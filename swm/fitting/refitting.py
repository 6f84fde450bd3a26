"""Closed-form change of a projection so that it gives what is missing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from swm.fitting.ridge import Ridge, Sums, solve


@dataclass(frozen=True)
class Change:
    """What to add to a weight `[channels, outputs]` and to its bias `[outputs]`, float64.

    `ridge` is the one that was used, `error` the squared error on the tokens that were left out to choose it, as a part
    of the one without a change; None where it was given.
    """

    weight: Tensor
    bias: Tensor | None
    ridge: float
    error: float | None


def fit_change(
    inputs: Tensor, missing: Tensor, scale: Tensor | None = None, *, bias: bool, ridge: float | None, fold: int
) -> Change:
    """`argmin sum_t ||s_t (x_t D + d - m_t)||^2 + ridge c ||D||^2`, c the mean of the diagonal of `sum s^2 x'x`.

    Args:
        inputs: x, what enters the projection, `[samples, seq, channels]`.
        missing: m, what its output lacks, `[samples, seq, outputs]`.
        scale: s, the factor of each token, `[samples, seq, 1]`; 1 by default.
        bias: Whether d may be other than 0.
        ridge: Without one, the best of a grid on samples that are left out to choose it.
        fold: One of so many samples is left out; of a single sample, its last tokens.
    """
    if bias:
        inputs = torch.cat([inputs, torch.ones_like(inputs[..., :1])], dim=-1)
    if scale is not None:
        inputs, missing = inputs * scale, missing * scale
    error = None
    if ridge is None:
        held = left_out_of(inputs, fold)
        training, left_out = (Sums.of(inputs[chosen], missing[chosen]) for chosen in (~held, held))
        solutions = Ridge(training)
        ridge = solutions.best(left_out)
        error = left_out.error(solutions.solution(ridge)) / left_out.yy if left_out.yy else 1.0
        sums = training + left_out
    else:
        sums = Sums.of(inputs.flatten(0, 1), missing.flatten(0, 1))
    change = solve(sums, ridge)
    return Change(change[:-1], change[-1], ridge, error) if bias else Change(change, None, ridge, error)


def left_out_of(inputs: Tensor, fold: int) -> Tensor:
    """Which tokens `[samples, seq]` of `[samples, seq, ..]` a fit leaves out to choose the ridge: see `fit_change`."""
    samples, seq = inputs.shape[:2]
    held = torch.zeros(samples, seq, dtype=torch.bool, device=inputs.device)
    if samples > 1:
        held[:: max(fold, 2)] = True
    else:
        held[:, -max(1, seq // fold) :] = True
    return held


def fit_without(inputs: Tensor, weight: Tensor, removed: Tensor, *, bias: bool, ridge: float | None = None) -> Change:
    """The change of the rows of a weight that stay, so that they give what all of them gave.

    Args:
        inputs: Of all channels, `[samples, seq, channels]`.
        weight: `[channels, outputs]`.
        removed: Which channels go, `[channels]`, bool.
        bias: See `fit_change`.
        ridge: See `fit_change`.
    """
    return fit_change(inputs[..., ~removed], inputs[..., removed] @ weight[removed], bias=bias, ridge=ridge, fold=5)


def by_length(hidden: Tensor) -> Tensor:
    """`1 / ||h||` `[.., 1]` of hidden states `[.., hidden]`.

    Attention sinks are a hundred times as long as other tokens, which need them to stay what they are.
    """
    lengths: Tensor = hidden.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return lengths.reciprocal()
