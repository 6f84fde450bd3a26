"""Points: what a kernel compares, centred in float64 where it is looked at, some points at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from swm.memory.pieces import pieces, pieces_of

# The median is found 16 bits at a time.
BITS = 16


@dataclass(frozen=True)
class Points:
    """Points `values` `[points, features]` of any type, and their `mean` `[features]` in float64."""

    values: Tensor
    mean: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Points:
        """With the mean of the values."""
        total = torch.zeros(values.shape[1], dtype=torch.float64, device=values.device)
        for rows in pieces_of(values):
            total += values[rows].double().sum(dim=0)
        return cls(values, total / len(values))

    def rows(self, rows: slice | Tensor) -> Tensor:
        """Some points less the mean, float64."""
        return self.values[rows].double() - self.mean


def squared_distances(points: Points, rows: Tensor) -> Tensor:
    """Of the points of these numbers to all points, `[rows, points]`."""
    own = points.rows(rows)
    return torch.cat([torch.cdist(own, points.rows(others)).square() for others in pieces_of(points.values)], dim=1)


def median_distance(points: Points) -> float:
    """The median of the squared distances of all pairs of points; of two in the middle, the smaller one."""
    n = len(points.values)
    every = torch.arange(n, device=points.mean.device)
    if len(pieces(n, n)) == 1:
        return float(squared_distances(points, every)[every[:, None] != every].median())
    # Numbers that are not negative are in the order of their bits.
    rank, leading = (n * (n - 1) - 1) // 2, 0
    for shift in range(64 - BITS, -1, -BITS):
        counts = torch.zeros(2**BITS, dtype=torch.long, device=every.device)
        for rows in pieces(n, n):
            bits = squared_distances(points, every[rows])[every[rows, None] != every].view(torch.long)
            if shift + BITS < 64:
                bits = bits[bits >> (shift + BITS) == leading]
            counts += torch.bincount(bits >> shift & 2**BITS - 1, minlength=2**BITS)
        below = counts.cumsum(0)
        digit = int(torch.searchsorted(below, rank, right=True))
        rank -= int(below[digit] - counts[digit])
        leading = leading << BITS | digit
    return float(torch.tensor(leading).view(torch.float64))
