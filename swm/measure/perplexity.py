"""Perplexity with its protocol written beside it."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from swm.interfaces.progress import Progress, Silent
from swm.measure.token_windows import PRESETS as PRESETS
from swm.measure.token_windows import PerplexityProtocol as PerplexityProtocol
from swm.measure.token_windows import TokenWindows as TokenWindows
from swm.measure.token_windows import cut_windows as cut_windows
from swm.model.finite import not_finite
from swm.model.token_scores import TokenScores, all_places

# Tokens in one forward pass.
TOKENS_PER_BATCH = 1024


@torch.no_grad()
def perplexity(
    model: Any, windows: TokenWindows, progress: Progress | None = None, label: str = "perplexity"
) -> dict[str, Any]:
    """`exp` of the mean negative log-likelihood a token in nats, with the protocol and a standard error.

    The standard error is that of the mean over windows, carried to the perplexity by the delta method. Above e^700 the
    value is infinite, and has no standard error.

    Args:
        model: A causal language model.
        windows: The token windows that are scored.
        progress: Shows how many windows are done.
        label: What the progress calls the measurement.

    Returns:
        `value`, `nats_per_token`, `standard_error`, the sum of nats of every window, and the protocol.

    Raises:
        ModelError: When the model's scores are not finite.
    """
    device = next(model.parameters()).device
    size = max(1, TOKENS_PER_BATCH // windows.longest)
    losses: list[float] = []
    counts = windows.tokens()
    with (progress or Silent()).task(label, len(windows.rows)) as task:
        for batch in _batches(windows.rows, size):
            ids = torch.stack([windows.rows[i] for i in batch]).to(device)
            scores = TokenScores(model, ids, all_places(*ids[:, 1:].shape), use_cache=False)
            nats = _nats(scores, ids[:, 1:])
            losses += [float(of_row[windows.lead(i) - 1 :].sum()) for i, of_row in zip(batch, nats, strict=True)]
            if not all(map(math.isfinite, losses[-len(batch) :])):
                raise not_finite("perplexity cannot be measured: the model's scores hold", scores.dtype)
            task.advance(len(batch))
    tokens = sum(counts)
    mean = sum(losses) / tokens
    value = math.exp(mean) if mean < 700 else math.inf
    result: dict[str, Any] = {"value": value, "nats_per_token": mean}
    if len(losses) > 1 and math.isfinite(value):
        spread = sum((loss - mean * n) ** 2 for loss, n in zip(losses, counts, strict=True))
        result["standard_error"] = value * math.sqrt(spread * len(losses) / (len(losses) - 1)) / tokens
    # By window, so that two models that read the same can be compared window by window.
    return {**result, "window_nats": [round(loss, 4) for loss in losses], "protocol": windows.record}


def _nats(scores: TokenScores, tokens: Tensor) -> Tensor:
    """Negative log-likelihoods of tokens `[windows, seq]` by the scores of all of them, in nats."""
    wanted = tokens.flatten()
    nats = [F.cross_entropy(given, wanted[rows].to(given.device), reduction="none") for rows, given in scores]
    return torch.cat(nats).view(tokens.shape).double()


def _batches(rows: list[Tensor], size: int) -> list[list[int]]:
    """The numbers of rows of equal length together, at most `size` of them."""
    batches: list[list[int]] = []
    for i, row in enumerate(rows):
        if batches and len(batches[-1]) < size and len(rows[batches[-1][0]]) == len(row):
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
