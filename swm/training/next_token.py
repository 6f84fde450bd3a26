"""The usual training loss."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from swm.training.training_set import IGNORED, TokenBatch


def next_token_loss(model: Any, batch: TokenBatch) -> Tensor:
    """The summed cross entropy, in nats and float32, of the labelled tokens of a batch."""
    logits = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits[:, :-1]
    labels = batch.labels[:, 1:]
    predicted = labels != IGNORED
    return F.cross_entropy(logits[predicted].float(), labels[predicted], reduction="sum")
