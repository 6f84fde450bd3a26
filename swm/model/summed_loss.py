"""The sum of a loss over pieces of hidden states, whose gradient is computed piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Pieces = Sequence[slice]
HiddenLoss = Callable[[Tensor, slice], Tensor]
Gradients = list[Tensor | None]


class SummedLoss(torch.autograd.Function):
    """`sum of loss(hidden[rows], rows)` over slices `rows`; nothing of a piece is kept for the backward pass.

    The gradients by `hidden` and by the weights that the loss reads are computed together with the loss, so that no
    piece is run twice. With float16, where they would underflow without the scale that the backward pass brings, and
    in a second backward pass, the pieces are run again.
    """

    @staticmethod
    def forward(ctx: Any, loss: HiddenLoss, pieces: Pieces, hidden: Tensor, *weights: Tensor) -> Tensor:
        """Args:
        ctx: What the backward pass needs.
        loss: Of a slice of `hidden`, which is given with that slice.
        pieces: The slices.
        hidden: `[tokens, hidden]`.
        weights: All tensors with a gradient that the loss may read.
        """
        wanted = ctx.needs_input_grad[2:]
        ctx.loss, ctx.pieces, ctx.inputs, ctx.wanted = loss, pieces, (hidden, *weights), wanted
        ctx.autocast = hidden.device.type, torch.is_autocast_enabled(hidden.device.type)
        ctx.autocast_dtype = torch.get_autocast_dtype(hidden.device.type)
        ctx.gradients = None
        if not any(wanted) or any(tensor.dtype is torch.float16 for tensor in ctx.inputs):
            return _sum([loss(hidden[rows], rows) for rows in pieces])
        total, ctx.gradients = _with_gradients(ctx, None)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:  # type: ignore[override,unused-ignore]
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            device, enabled = ctx.autocast
            with torch.autocast(device, ctx.autocast_dtype, enabled=enabled):
                _, gradients = _with_gradients(ctx, upstream)
        else:
            gradients = [None if gradient is None else gradient.mul_(upstream) for gradient in gradients]
        results = [None if g is None else g.to(of.dtype) for g, of in zip(gradients, ctx.inputs, strict=True)]
        return (None, None, *results)


def _with_gradients(ctx: Any, upstream: Tensor | None) -> tuple[Tensor, Gradients]:
    """The sum, and its gradients by the hidden states and the weights, times `upstream` if given, in float32."""
    hidden, *weights = ctx.inputs
    by_hidden, *by_weight = ctx.wanted
    sought = [weight for weight, wanted in zip(weights, by_weight, strict=True) if wanted]
    gradients: Gradients = [None] * len(sought)
    ends = torch.zeros_like(hidden, dtype=torch.promote_types(hidden.dtype, torch.float32)) if by_hidden else None
    values = []
    for rows in ctx.pieces:
        piece = hidden[rows].detach().requires_grad_(by_hidden)
        with torch.enable_grad():
            value = ctx.loss(piece, rows)
        values.append(value.detach())
        inputs = [piece, *sought] if by_hidden else sought
        parts = list(torch.autograd.grad(value, inputs, upstream, allow_unused=True)) if value.requires_grad else []
        if ends is not None:
            ends[rows] = parts.pop(0)
        for i, part in enumerate(parts):
            gradients[i] = _added(gradients[i], part)
    each = iter(gradients)
    return _sum(values), [ends, *(next(each) if wanted else None for wanted in by_weight)]


def _added(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    if part is None or total is None:
        # A copy: two weights may be given one tensor as their gradient.
        return total if part is None else part.to(torch.promote_types(part.dtype, torch.float32), copy=True)
    return total.add_(part)


def _sum(values: list[Tensor]) -> Tensor:
    return torch.stack(values).sum()
