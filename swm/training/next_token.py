"""The usual training loss."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from swm.model.token_scores import TokenScores
from swm.training.training_set import TokenBatch


def next_token_loss(model: Any, batch: TokenBatch) -> Tensor:
    """The summed cross entropy, in nats and float32, of the labelled tokens of a batch."""
    scores = TokenScores(model, batch.ids, batch.places, **batch.inputs())
    wanted = batch.labels[:, 1:][batch.predicted]
    return scores.total(lambda given, rows: F.cross_entropy(given, wanted[rows].to(given.device), reduction="sum"))
