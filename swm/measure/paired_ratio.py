"""The error of a ratio of two perplexities that were measured on the same pieces of text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def ratio_error(dense: Sequence[float], compressed: Sequence[float], tokens: Sequence[int]) -> float | None:
    """The standard error of the ratio `exp(sum(compressed - dense) / sum(tokens))`, by the delta method.

    With the difference `d_i` of the nats of piece `i` of `k`, its `n_i` tokens, `T` tokens in all and
    `delta = sum(d) / T`, the error of `delta` is `sqrt(k / (k - 1) * sum((d_i - delta n_i)^2)) / T`, and that of the
    ratio is this times the ratio. What both models find hard cancels, so it is far less than the errors of the two
    perplexities let expect.

    Args:
        dense: The nats of each piece by the original model.
        compressed: Those by the compressed one.
        tokens: The scored tokens of each piece.

    Returns:
        The error; None for fewer than two pieces, for pieces that are not the same, and where a number is too large.
    """
    pieces, total = len(tokens), sum(tokens)
    if pieces < 2 or len(dense) != pieces or len(compressed) != pieces:
        return None
    differences = [after - before for before, after in zip(dense, compressed, strict=True)]
    mean = sum(differences) / total
    if not math.isfinite(mean) or mean > 700:
        return None
    spread = sum((one - mean * count) ** 2 for one, count in zip(differences, tokens, strict=True))
    return math.exp(mean) * math.sqrt(spread * pieces / (pieces - 1)) / total


def piece_tokens(protocol: Mapping[str, Any]) -> list[int]:
    """The scored tokens of each window of a perplexity, of which only the last may be shorter; empty where unknown."""
    try:
        windows, scored, whole = protocol["windows"], protocol["scored_tokens"], protocol["seq_len"] - 1
        counts = [whole] * (windows - 1)
        return [*counts, scored - sum(counts)]
    except (KeyError, TypeError):
        return []
