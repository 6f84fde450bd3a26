"""Shares of several sources of text: how many samples each gives, and in which order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def apportioned(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers that add up to `total`, by the largest remainder; of equal remainders the first come first."""
    exact = [total * share for share in shares]
    # 0.7 * 10 is a little less than 7.
    counts = [math.floor(value + 1e-9) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def interleaved(counts: Sequence[int]) -> list[int]:
    """The number of the source of each sample, evenly: any first samples hold about the shares of all."""
    places = [((k + 0.5) / count, i) for i, count in enumerate(counts) for k in range(count)]
    return [i for _, i in sorted(places)]


def by_shares(
    rows: Sequence[Sequence[T]], sizes: Sequence[Sequence[int]], shares: Sequence[float], limit: int | None = None
) -> tuple[list[T], int | None]:
    """Rows of several sources in an order in which the sizes of any first of them are as near the shares as can be.

    Args:
        rows: The rows of each source, in the order in which they are taken.
        sizes: The size of each row.
        shares: The share of each source.
        limit: The most rows.

    Returns:
        The rows, and the number of the source for want of which there are no more; None where the limit is reached.
    """
    taken = [0] * len(rows)
    used = [0] * len(rows)
    chosen: list[T] = []
    while limit is None or len(chosen) < limit:
        # The source that is furthest behind its share.
        source = min(range(len(rows)), key=lambda i: (used[i] / shares[i], i))
        place = taken[source]
        if place == len(rows[source]):
            return chosen, source
        chosen.append(rows[source][place])
        taken[source], used[source] = place + 1, used[source] + sizes[source][place]
    return chosen, None
