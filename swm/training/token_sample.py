"""TokenSample: some tokens of a large vocabulary that stand for all of it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from swm.model.view import ModelView

# At least so many tokens that do not stand in the text are drawn, and so many to each that does.
FEWEST_OTHERS, OTHERS = 2048, 0.25


def most_rows(tokens: int) -> int:
    """The most tokens of a vocabulary that stand for it with a text of so many."""
    return tokens + _others(tokens)


def _others(known: int) -> int:
    return max(FEWEST_OTHERS, int(OTHERS * known))


class DrawnTokens(NamedTuple):
    """Tokens `[n]`, and what is added to the score of each, `[n]` in float32."""

    tokens: Tensor
    raised: Tensor


class TokenSample:
    """The tokens of a text, and anew each time some of the others, drawn evenly, which stand for all others.

    Each of these has its score raised by the logarithm of the number of tokens that it stands for: then the sum of the
    exponentials of all scores, by which a softmax divides, is estimated without bias. This is the sampled softmax of
    Jean et al. 2015 (arXiv 1412.2007), with an even proposal.
    """

    def __init__(self, known: Tensor, vocabulary: int, others: int, seed: int) -> None:
        """Divide the vocabulary.

        Args:
            known: The tokens that are always there, each once, `[n]`.
            vocabulary: How many there are of all.
            others: How many of the rest are drawn, at least 1.
            seed: Of the draws.
        """
        rest = torch.ones(vocabulary, dtype=torch.bool)
        rest[known.cpu()] = False
        self.known, self.rest = known, rest.nonzero().flatten()
        self.others = min(others, len(self.rest))
        self._generator = torch.Generator().manual_seed(seed)

    @classmethod
    def of(cls, view: ModelView, ids: Tensor, hidden: Tensor, seed: int) -> TokenSample | None:
        """Those of a text; None where they are no less than half of the vocabulary, or the model cannot do with some.

        Args:
            view: The model that gives the scores.
            ids: The text, `[samples, seq]`.
            hidden: Hidden states to try them on, `[samples, seq, hidden]`.
            seed: Of the draws.
        """
        known = torch.unique(ids).to(hidden.device)
        others = _others(len(known))
        few = 2 * (len(known) + others) <= view.vocabulary and view.tokens is None
        if not few or int(known[-1]) >= view.vocabulary:
            return None
        if not view.head.has_rows(hidden[:1, :2].to(view.dtype), view.vocabulary):
            return None
        return cls(known, view.vocabulary, others, seed)

    @property
    def size(self) -> int:
        """How many tokens there are of all that stand for the vocabulary."""
        return len(self.known) + self.others

    def draw(self) -> DrawnTokens:
        """The tokens of one step."""
        chosen = self.rest[torch.randperm(len(self.rest), generator=self._generator)[: self.others]]
        tokens = torch.cat([self.known.cpu(), chosen]).to(self.known.device)
        raised = torch.zeros(len(tokens), device=tokens.device)
        if self.others:
            raised[len(self.known) :] = math.log(len(self.rest) / self.others)
        return DrawnTokens(tokens, raised)
