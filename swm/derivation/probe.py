"""The text on which rows are derived and tested."""

from __future__ import annotations

import torch
from torch import Tensor

SAMPLES, TOKENS = 3, 16
# Of larger vocabularies so many tokens are used: those behind them may stand for images.
LARGEST = 96
# The first ids of a vocabulary are often special.
FIRST = 3


def probe_ids(vocabulary: int, samples: int = SAMPLES) -> Tensor:
    """Tokens `[samples, 16]` that are not special."""
    count = max(1, min(vocabulary, LARGEST) - FIRST)
    return (torch.arange(samples * TOKENS).reshape(samples, TOKENS) * 7 % count) + min(
        FIRST, max(vocabulary - count, 0)
    )
