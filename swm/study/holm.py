"""Holm's correction of several tests for their number."""

from __future__ import annotations

from collections.abc import Sequence


def holm(values: Sequence[float]) -> list[float]:
    """The p-values of a family of tests, corrected for their number.

    The k-th smallest of `n` becomes the largest of `(n + 1 - j) p_j` for `j <= k`, at most 1. Where those below 0.05
    are called differences, the chance that any of these is none is at most 5 %, however the tests depend on each other
    (Holm 1979, Scandinavian Journal of Statistics 6).
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    corrected, highest = [1.0] * len(values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[i]))
        corrected[i] = highest
    return corrected
