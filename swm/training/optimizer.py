"""The optimizer of every training."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def adamw(
    weights: Iterable[torch.nn.Parameter | torch.Tensor],
    rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101), on the CPU with one pass over the weights in place of one for each operation.

    Args:
        weights: What is trained.
        rate: The learning rate.
        betas: How slowly the averages of the gradient and of its square change.
        weight_decay: What part of a weight a step takes off, times the rate.
    """
    kept = list(weights)
    # Elsewhere torch chooses by itself.
    fused = True if all(weight.device.type == "cpu" for weight in kept) else None
    return torch.optim.AdamW(kept, lr=rate, betas=betas, weight_decay=weight_decay, fused=fused)
