"""Closed-form change of a projection so that it gives what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from swm.fitting.few_tokens import FewTokens
from swm.fitting.ridge import Sums, best_ridge, solve
from swm.memory.pieces import MadeRows, Rows, pieces

# Where there are so many times as many inputs as tokens, the tokens' own Gram matrix is used.
FEW = 2
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
    tokens, error = _Tokens(inputs, missing, scale, bias), None
    held = torch.zeros(len(inputs), tokens.seq, dtype=torch.bool)
    if ridge is None:
        held = left_out_of(len(inputs), tokens.seq, fold)
    held = held.to(tokens.device)
    if are_few(held.numel(), tokens.size, ridge) and not held.all():
        few = tokens.together()
        if ridge is None:
            ridge, lost = few.best_ridge(held.flatten())
            error = _share(lost, float(few.y[held.flatten()].square().sum()))
        change = few.solve(ridge)
    else:
        sums, left_out = tokens.sums(held)
        if ridge is None:
            ridge, lost = best_ridge(sums, left_out)
            error = _share(lost, left_out.yy)
            sums += left_out
        del left_out
        change = solve(sums, ridge)
    return Change(change[:-1], change[-1], ridge, error) if bias else Change(change, None, ridge, error)


def are_few(tokens: int, inputs: int, ridge: float | None) -> bool:
    """Whether so many tokens are fitted by their own Gram matrix, the smaller one."""
    return ridge != 0 and FEW * tokens <= inputs


def _share(lost: float, whole: float) -> float:
    return lost / whole if whole else 1.0


@dataclass(frozen=True)
class _Tokens:
    """The tokens of a fit, some samples at a time; the fields are as in `fit_change`.

    With a bias, a column of ones is added to the inputs.
    """

    inputs: Rows
    missing: Rows
    scale: Rows | None
    bias: bool

    @cached_property
    def device(self) -> torch.device:
        return self.inputs[:1].device

    @cached_property
    def seq(self) -> int:
        return self.inputs[:1].shape[1]

    @cached_property
    def size(self) -> int:
        """The number of inputs, the column of ones included."""
        return self.inputs[:1].shape[-1] + self.bias

    @cached_property
    def outputs(self) -> int:
        return self.missing[:1].shape[-1]

    def pieces(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Samples, with their inputs `[samples, seq, size]` and what is missing, both scaled."""
        for rows in pieces(len(self.inputs), self.seq * max(self.size - self.bias, CHUNK_WIDTH) // CHUNK_PIECES):
            x, y = self.inputs[rows], self.missing[rows]
            if self.bias:
                x = torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)
            if self.scale is not None:
                x, y = x * self.scale[rows], y * self.scale[rows]
            yield rows, x, y

    def sums(self, held: Tensor) -> tuple[Sums, Sums]:
        """The sums over the tokens to fit to, and over those that are `held` back `[samples, seq]`; small for none."""
        training = Sums.zeros(self.size, self.outputs, self.device)
        left_out = Sums.zeros(self.size if held.any() else 0, self.outputs, self.device)
        for rows, x, y in self.pieces():
            for sums, chosen in ((training, ~held[rows]), (left_out, held[rows])):
                if chosen.any():
                    sums.add(x[chosen].double(), y[chosen].double())
        return training, left_out

    def together(self) -> FewTokens:
        """All tokens at once, in their order."""
        count = len(self.inputs) * self.seq
        x, y = (torch.empty(count, size, dtype=torch.float64, device=self.device) for size in (self.size, self.outputs))
        for rows, some, missing in self.pieces():
            place = slice(rows.start * self.seq, rows.stop * self.seq)
            x[place], y[place] = some.flatten(0, 1), missing.flatten(0, 1)
        return FewTokens(x, y)


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
