"""EndDivergence: how far the next-token distributions are apart that two outputs of the last layer lead to."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from swm.model.summed_loss import SummedLoss
from swm.model.token_scores import score_pieces
from swm.model.view import ModelView
from swm.training.token_sample import TokenSample


class EndDivergence:
    """`KL(p || q)`, mean over tokens, p and q being what the model's end makes of the wanted and the given states.

    Both go through the same end of the compressed model, whose vocabulary may be a part of the original one's. With a
    `sample`, a training looks at these tokens in place of the whole vocabulary; what is not trained looks at all.
    """

    def __init__(self, view: ModelView, sample: TokenSample | None = None) -> None:
        self._view, self._sample = view, sample

    def __call__(self, given: Tensor, wanted: Tensor) -> Tensor:
        """The mean, with its gradient by `given`; scores are made of a piece of the tokens at a time.

        Args:
            given: Outputs of the last layer, `[samples, seq, hidden]`.
            wanted: Those of the original model, of the same shape.
        """
        given, wanted = given.flatten(0, 1), wanted.flatten(0, 1)
        drawn = None if self._sample is None or not given.requires_grad else self._sample.draw()
        pieces = score_pieces(len(given), self._view.vocabulary if drawn is None else len(drawn.tokens))

        def of_piece(hidden: Tensor, rows: slice) -> Tensor:
            # With float16 a piece is run again in the backward pass.
            with nullcontext() if drawn is None else self._view.head.only(drawn.tokens):
                target = self._view.logits(wanted[rows][None])[0]
                scores = self._view.logits_with_gradient(hidden[None])[0]
            if drawn is not None:
                scores, target = scores + drawn.raised, target + drawn.raised
            return divergence(scores, target)

        total: Tensor = SummedLoss.apply(of_piece, pieces, given)  # type: ignore[no-untyped-call,unused-ignore]
        return total / len(given)


def divergence(scores: Tensor, wanted: Tensor) -> Tensor:
    """`KL(softmax(wanted) || softmax(scores))`, summed over tokens; its gradient by `scores` is `q - p`.

    A few passes over the scores, where autograd makes a dozen, in float32 whatever their dtype.

    Args:
        scores: `[tokens, vocabulary]`; q are their probabilities.
        wanted: Of the same shape; p are theirs. No gradient goes there.
    """
    value: Tensor = _Divergence.apply(scores, wanted)  # type: ignore[no-untyped-call,unused-ignore]
    return value


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, wanted: Tensor) -> Tensor:
        """Args:
        ctx: Keeps the gradient, which is as large as the scores.
        scores: `[tokens, vocabulary]`.
        wanted: `[tokens, vocabulary]`.
        """
        given, asked = scores.log_softmax(-1, torch.float32), wanted.log_softmax(-1, torch.float32)
        apart = asked - given
        p = asked.exp_()
        value: Tensor = torch.linalg.vecdot(p, apart).sum()
        if ctx.needs_input_grad[0]:
            ctx.gradient = given.exp_().sub_(p).to(scores.dtype)
        return value

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator,unused-ignore]
    def backward(ctx: Any, upstream: Tensor) -> Any:
        return ctx.gradient * upstream, None
