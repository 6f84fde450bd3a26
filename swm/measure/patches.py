"""Patches: runs of adjacent layers that are all alike, as in Figure 1 of Sliding-Window Merging (arXiv 2502.19159)."""

from __future__ import annotations

import torch
from torch import Tensor

from swm.model.windows import Window


def otsu_threshold(similarity: Tensor) -> float:
    """The similarity that best parts all pairs of layers `[layers, layers]` into alike and unlike ones.

    What counts as alike depends on the metric and the model (two layers of one model may have a cosine of 0.99 and a
    CKA of 0.3), so the threshold is relative: both groups vary as little as possible in themselves. It finds where a
    model is redundant, not whether it is. Source: Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9(1), 1979.
    """
    rows, columns = torch.triu_indices(len(similarity), len(similarity), offset=1)
    pairs = torch.minimum(similarity, similarity.T)[rows, columns].double().sort().values
    if len(pairs) < 2:
        return float(pairs.sum())
    below = torch.arange(1, len(pairs))
    sums, above = pairs.cumsum(dim=0), len(pairs) - below
    apart = (sums[-1] - sums[:-1]) / above - sums[:-1] / below
    return float(pairs[1:][(below * above * apart.square()).argmax()])


def find_patches(similarity: Tensor, threshold: float) -> list[Window]:
    """Disjoint runs of two or more adjacent layers of which every pair is at least `threshold` alike, ascending.

    `similarity` is `[layers, layers]`. Where such runs overlap, the longest is taken (of equally long ones the lowest)
    and the search goes on below and above it.
    """
    alike = torch.minimum(similarity, similarity.T) >= threshold
    return _between(alike, 0, len(alike))


def _between(alike: Tensor, start: int, end: int) -> list[Window]:
    """The patches among the layers `start` to `end`, the latter left out."""
    runs = [Window(first, _reach(alike, first, end)) for first in range(start, end)]
    longest = max(runs, key=lambda run: run.removed, default=None)
    if longest is None or longest.removed == 0:
        return []
    below, above = _between(alike, start, longest.first), _between(alike, longest.last + 1, end)
    return [*below, longest, *above]


def _reach(alike: Tensor, first: int, end: int) -> int:
    """The last layer of the longest run that begins at `first`."""
    last = first
    while last + 1 < end and bool(alike[first : last + 1, last + 1].all()):
        last += 1
    return last
