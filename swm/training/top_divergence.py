"""How far next-token distributions are from given ones, known by their likeliest tokens and the mass of the rest."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# A mass below it is no number that float32 can divide by.
LEAST = 1e-30


class TopTokens(NamedTuple):
    """Distributions over a vocabulary: the ids `[tokens, k]` of the k likeliest tokens, their log-probabilities
    `[tokens, k]`, and the logarithm of the mass of all others `[tokens]`: minus infinity where there are none.
    """

    ids: Tensor
    logs: Tensor
    rest: Tensor

    def to(self, device: torch.device) -> TopTokens:
        """On another device, with the ids as indices."""
        return TopTokens(self.ids.long().to(device), self.logs.to(device), self.rest.to(device))


def top_tokens(scores: Tensor, k: int, temperature: float = 1.0) -> TopTokens:
    """The k likeliest tokens of `softmax(scores / temperature)`, `scores` being `[tokens, vocabulary]` in float32."""
    logs = (scores if temperature == 1 else scores / temperature).log_softmax(dim=-1)
    top = logs.topk(min(k, logs.shape[-1]), dim=-1)
    # No logarithm is above 0, so nothing overflows; torch's logsumexp takes five times as long on a CPU.
    rest = logs.scatter_(1, top.indices, -torch.inf).exp_().sum(dim=-1).log()
    return TopTokens(top.indices, top.values, rest)


def top_divergence(scores: Tensor, wanted: TopTokens, temperature: float = 1.0) -> Tensor:
    """`temperature^2` times the divergence of the student from the teacher over k + 1 outcomes, summed over tokens.

    The outcomes are the k tokens that are likeliest for the teacher, K, and `any other`. With `p = softmax(scores /
    temperature)`, `q` the teacher's probabilities, and `p_r` and `q_r` the masses outside of K:
    `sum over K of q (log q - log p) + q_r (log q_r - log p_r)`. It is at most the divergence over the vocabulary, and
    equal to it where K is all of it. Its gradient by `scores / temperature` is `p - q` in K and `p (1 - q_r / p_r)`
    outside; one tensor of the size of the scores is made.
    """
    value: Tensor = _TopDivergence.apply(  # type: ignore[no-untyped-call,unused-ignore]
        scores, *wanted, temperature
    )
    return value


class _TopDivergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, ids: Tensor, logs: Tensor, rest: Tensor, heat: float) -> Tensor:
        """Args:
        ctx: Keeps the gradient, which is as large as the scores.
        scores: `[tokens, vocabulary]`.
        ids: `[tokens, k]`.
        logs: `[tokens, k]`.
        rest: `[tokens]`.
        heat: The temperature.
        """
        masses = scores - scores.amax(dim=-1, keepdim=True)
        if heat != 1:
            masses /= heat
        chosen = masses.gather(1, ids)
        total = masses.exp_().sum(dim=-1)
        given = chosen - total.log()[:, None]
        others = (masses.scatter_(1, ids, 0.0).sum(dim=-1) / total).clamp_min(LEAST)
        mass = rest.exp()
        # Where the teacher leaves no mass outside, that term is zero, and not the product of zero and infinity.
        outside = torch.where(mass > 0, mass * (rest - others.log()), 0.0)
        value = (logs.exp() * (logs - given)).sum() + outside.sum()
        if ctx.needs_input_grad[0]:
            masses.mul_(((1 - mass / others) / total)[:, None])
            ctx.gradient = masses.scatter_(1, ids, given.exp() - logs.exp()).mul_(heat)
        return value * heat**2

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator,unused-ignore]
    def backward(ctx: Any, upstream: Tensor) -> Any:
        return ctx.gradient * upstream, None, None, None, None
