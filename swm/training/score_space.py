"""ScoreSpace: the states behind the last layer, so that distances say how far apart next-token distributions are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from swm.model.view import ModelView

# So many tokens, spread over the text, give the metric; their scores are made so many at a time.
TOKENS, PIECE = 2048, 256


class ScoreSpace:
    """Maps the last layer's output, `[.., hidden]`, to a space in which squared distances are KL to second order.

    `KL(p || q) ~ 1/2 d^T W^T (diag p - p p^T) W d` for a difference d of what the vocabulary projection W reads. The
    matrix in the middle is its mean over tokens of the original model (the Gauss-Newton matrix of the KL), so one map
    serves for all of them, and no scores are made afterwards.
    """

    def __init__(self, view: ModelView, root: Tensor) -> None:
        self._view, self._root = view, root

    @classmethod
    @torch.no_grad()
    def of(cls, view: ModelView, ends: Tensor) -> ScoreSpace | None:
        """That of a model; None where its class does not say which matrix its vocabulary projection is.

        Args:
            view: The original model.
            ends: What its last layer gives for a text, `[samples, seq, hidden]`.
        """
        model: Any = view.model
        projection = model.get_output_embeddings()
        weight = getattr(projection, "weight", None)
        tokens = ends.flatten(0, 1)
        tokens = tokens[torch.linspace(0, len(tokens) - 1, min(TOKENS, len(tokens))).long().to(tokens.device)]
        if weight is None or weight.dim() != 2 or weight.shape[1] != view.tail(tokens[None, :1]).shape[-1]:
            return None
        weight = weight.detach().float()
        of_tokens = torch.zeros(weight.shape[0], device=weight.device)
        means = torch.zeros(weight.shape[1], weight.shape[1], device=weight.device, dtype=torch.float64)
        for some in torch.split(tokens, PIECE):
            chances = view.logits(some[None])[0].float().softmax(dim=-1)
            if chances.shape[1] != weight.shape[0]:
                return None
            of_tokens += chances.sum(0)
            mean = (chances @ weight).double()
            means += mean.T @ mean
        middle = ((weight.T * of_tokens) @ weight).double() - means
        values, vectors = torch.linalg.eigh(middle / (2 * len(tokens)))
        return cls(view, (vectors * values.clamp_min(0).sqrt()).float())

    def __call__(self, hidden: Tensor) -> Tensor:
        """`[.., hidden]` to `[.., width]`, with gradients where they are enabled."""
        ready: Tensor = self._view.head.tail(hidden)
        return ready.float() @ self._root
