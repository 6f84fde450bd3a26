"""Angular similarity of hidden states."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from swm.interfaces.similarity import SampleMetric, token_mean
from swm.similarity.cosine import check_skip, select


@final
@dataclass(frozen=True)
class Angular(SampleMetric):
    """One minus the angular distance `arccos(cosine) / pi`, averaged over tokens and samples.

    `tokens: last` compares the last token of a sample, as the paper does.
    Source: Gromov et al., arXiv 2403.17887, section 3.2.
    """

    name: ClassVar[str] = "angular"
    symmetric: ClassVar[bool] = True
    paper: ClassVar[str] = "https://arxiv.org/abs/2403.17887"

    tokens: Literal["each", "last"] = "last"
    skip_first: Annotated[int, Field(ge=0)] = 0

    def check(self, samples: int, seq_len: int) -> None:
        check_skip(self.skip_first, seq_len)

    def per_sample(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> Tensor:
        reference, candidate, mask = select(reference, candidate, mask, self.skip_first, self.tokens == "last")
        cosine = F.cosine_similarity(reference.double(), candidate.double(), dim=-1).clamp(-1, 1)
        return token_mean(1 - cosine.arccos() / math.pi, mask)
