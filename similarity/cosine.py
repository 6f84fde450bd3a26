"""Cosine similarity of hidden states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from swm.interfaces.similarity import SampleMetric, token_mean


@final
@dataclass(frozen=True)
class Cosine(SampleMetric):
    """`a·b / (|a| |b|)`, averaged over samples.

    `tokens: flattened` makes one vector of a whole sample, as the released SWM does; tokens with huge norms decide
    it then. `each` averages the cosine of every token; `last` takes the last token. `skip_first` leaves out the first
    tokens of every sample, which many models use as attention sinks with norms far above all others.

    Source: arXiv 2502.19159, Figure 2(c), and the released `cal_sim`.
    """

    name: ClassVar[str] = "cosine"
    symmetric: ClassVar[bool] = True
    is_default: ClassVar[bool] = True
    paper: ClassVar[str] = "https://arxiv.org/abs/2502.19159"

    tokens: Literal["flattened", "each", "last"] = "flattened"
    skip_first: Annotated[int, Field(ge=0)] = 0

    def check(self, samples: int, seq_len: int) -> None:
        check_skip(self.skip_first, seq_len)

    def per_sample(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> Tensor:
        reference, candidate, mask = select(reference, candidate, mask, self.skip_first, self.tokens == "last")
        if self.tokens == "flattened":
            if mask is not None:
                reference, candidate = reference.where(mask[..., None], 0), candidate.where(mask[..., None], 0)
            return F.cosine_similarity(reference.flatten(1).double(), candidate.flatten(1).double(), dim=1)
        return token_mean(F.cosine_similarity(reference.double(), candidate.double(), dim=-1), mask)


def select(
    reference: Tensor, candidate: Tensor, mask: Tensor | None, skip_first: int, last_only: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The tokens to compare: without the first real ones, or the last real one alone.

    Args:
        reference: The original model's activations `[samples, seq, hidden]`.
        candidate: The other model's.
        mask: False for padding, `[samples, seq]`; None where there is none.
        skip_first: So many tokens at the start of each sample are left out.
        last_only: Whether the last token alone is compared.

    Returns:
        Both activations and the mask, of the tokens to compare.

    Raises:
        ValueError: A sample has no token left.
    """
    check_skip(skip_first, reference.shape[1] if mask is None else int(mask.sum(dim=1).min()))
    if mask is None:
        start = reference.shape[1] - 1 if last_only else skip_first
        return reference[:, start:], candidate[:, start:], None
    order = mask.long().cumsum(dim=1)
    kept = mask.bool() & (order > skip_first)
    if last_only:
        kept &= order == order[:, -1:]
    return reference, candidate, kept


def check_skip(skip_first: int, tokens: int) -> None:
    """Raise ValueError when nothing is left of a sample."""
    if tokens <= skip_first:
        raise ValueError(f"skip_first: {skip_first} leaves nothing of samples of {tokens} tokens")
