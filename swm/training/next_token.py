"""The usual training loss."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from swm.model.token_scores import TokenScores
from swm.training.training_set import IGNORED, TokenBatch


def next_token_loss(model: Any, batch: TokenBatch) -> Tensor:
    """The summed cross entropy, in nats and float32, of the labelled tokens of a batch."""
    labels = batch.labels[:, 1:]
    predicted = labels != IGNORED
    scores = TokenScores(model, batch.ids, predicted.nonzero(as_tuple=True), attention_mask=batch.mask, use_cache=False)
    wanted = labels[predicted]
    return scores.total(lambda given, rows: F.cross_entropy(given, wanted[rows].to(given.device), reduction="sum"))
