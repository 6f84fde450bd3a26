"""How much memory a training takes, whatever the length of the text."""

from __future__ import annotations

import torch

from swm.model.token_scores import SCORE_BYTES
from swm.model.view import ModelView
from swm.training.master_weights import HALF
from swm.training.schedule import Schedule

# Of a layer and a token: numbers in float32 that are kept for the gradients, in hidden states.
KEPT_FOR_GRADIENTS = 20
# Beside what every piece of scores takes: its gradient, and what that is computed from.
SCORE_GRADIENTS = 2


def training_bytes(model: ModelView, schedule: Schedule, trained: int, dtype: torch.dtype) -> int:
    """Of a training of so many parameters: gradients, AdamW's two averages, and what a micro batch keeps.

    Weights that are written are no longer those of the mapped files; of half-precision ones there is a float32 copy.

    Args:
        model: The model; it needs no weights.
        schedule: The size of a micro batch.
        trained: How many parameters are trained.
        dtype: The type of the weights.
    """
    each = 12 + dtype.itemsize + (4 if dtype in HALF else 0)
    tokens = schedule.micro_batch * schedule.cutoff
    kept: int = tokens * model.config.hidden_size * len(model.layers) * KEPT_FOR_GRADIENTS * 4
    return trained * each + kept + SCORE_GRADIENTS * score_bytes(model, tokens)


def score_bytes(model: ModelView, tokens: int) -> int:
    """Of the largest piece of next-token scores of so many tokens, in float32."""
    return min(SCORE_BYTES, 4 * tokens * int(model.config.vocab_size))


def adapter_bytes(model: ModelView, schedule: Schedule, rank: int, dtype: torch.dtype) -> int:
    """As `training_bytes`, of adapters that are added to all projections in the end.

    Args:
        model, schedule, dtype: As there.
        rank: That of each adapter.
    """
    matrices = [p for layer in model.layers for p in layer.parameters() if p.dim() == 2]
    trained = sum(rank * sum(p.shape) for p in matrices)
    merged = sum(p.numel() for p in matrices) * dtype.itemsize
    return training_bytes(model, schedule, trained, torch.float32) + merged
