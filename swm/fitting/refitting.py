"""Closed-form change of a projection so that it gives what is missing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from swm.fitting.ridge import Ridge, Sums, solve
from swm.memory.pieces import MadeRows, Rows, pieces

# Sums are large matrices themselves, so many tokens are added at once; of narrow inputs, 2,048.
CHUNK_WIDTH, CHUNK_PIECES = 4096, 4


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
    inputs: Rows, missing: Rows, scale: Rows | None = None, *, bias: bool, ridge: float | None, fold: int
) -> Change:
    """`argmin sum_t ||s_t (x_t D + d - m_t)||^2 + ridge c ||D||^2`, c the mean of the diagonal of `sum s^2 x'x`.

    The tensors are read some samples at a time.

    Args:
        inputs: x, what enters the projection, `[samples, seq, channels]`.
        missing: m, what its output lacks, `[samples, seq, outputs]`.
        scale: s, the factor of each token, `[samples, seq, 1]`; 1 by default.
        bias: Whether d may be other than 0.
        ridge: Without one, the best of a grid on samples that are left out to choose it.
        fold: One of so many samples is left out; of a single sample, its last tokens.
    """
    error = None
    sums, left_out = _sums(inputs, missing, scale, bias, fold if ridge is None else None)
    if ridge is None:
        solutions = Ridge(sums)
        ridge = solutions.best(left_out)
        error = left_out.error(solutions.solution(ridge)) / left_out.yy if left_out.yy else 1.0
        del solutions
        sums += left_out
        del left_out
    change = solve(sums, ridge)
    return Change(change[:-1], change[-1], ridge, error) if bias else Change(change, None, ridge, error)


def _sums(inputs: Rows, missing: Rows, scale: Rows | None, bias: bool, fold: int | None) -> tuple[Sums, Sums]:
    """The sums over the tokens to fit to, and over those that are left out; with no `fold`, all are fitted to.

    Args:
        inputs: As in `fit_change`.
        missing: As there.
        scale: As there.
        bias: Whether a column of ones is added to the inputs.
        fold: One of so many samples is left out.
    """
    first = inputs[:1]
    seq, channels = first.shape[1:]
    held = torch.zeros(len(inputs), seq, dtype=torch.bool, device=first.device)
    if fold is not None:
        held = left_out_of(len(inputs), seq, fold).to(first.device)
    outputs = missing[:1].shape[-1]
    size = channels + bias
    training = Sums.zeros(size, outputs, first.device)
    left_out = Sums.zeros(0 if fold is None else size, outputs, first.device)
    for rows in pieces(len(inputs), seq * max(channels, CHUNK_WIDTH) // CHUNK_PIECES):
        x, y, chosen = inputs[rows], missing[rows], held[rows]
        if bias:
            x = torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)
        if scale is not None:
            x, y = x * scale[rows], y * scale[rows]
        for sums, tokens in ((training, ~chosen), (left_out, chosen)):
            if tokens.any():
                sums.add(x[tokens].double(), y[tokens].double())
    return training, left_out


def left_out_of(samples: int, seq: int, fold: int) -> Tensor:
    """Which tokens `[samples, seq]` a fit leaves out to choose the ridge: see `fit_change`."""
    held = torch.zeros(samples, seq, dtype=torch.bool)
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
    lost = weight[removed]
    stays = MadeRows(len(inputs), lambda rows: inputs[rows][..., ~removed])
    missing = MadeRows(len(inputs), lambda rows: inputs[rows][..., removed] @ lost)
    return fit_change(stays, missing, bias=bias, ridge=ridge, fold=5)


def by_length(hidden: Tensor) -> Tensor:
    """`1 / ||h||` `[.., 1]` of hidden states `[.., hidden]`.

    Attention sinks are a hundred times as long as other tokens, which need them to stay what they are.
    """
    lengths: Tensor = hidden.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return lengths.reciprocal()


def lengths_of(hidden: Rows) -> MadeRows:
    """`by_length` of hidden states of all samples."""
    return MadeRows(len(hidden), lambda rows: by_length(hidden[rows]))
