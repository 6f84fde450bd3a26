"""Index sets as text: `0-3,5,7-9`. A plan of a large model stays short and quick to read."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from swm.errors import PlanError


def format_ranges(indices: Iterable[int]) -> str:
    """The ascending distinct indices as comma-separated single numbers and inclusive ranges."""
    runs: list[list[int]] = []
    for index in sorted(set(indices)):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def parse_ranges(text: str | int) -> list[int]:
    """The inverse of `format_ranges`. Raises PlanError on anything else."""
    indices: list[int] = []
    for part in filter(None, str(text).replace(" ", "").split(",")):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise PlanError(f"'{text}' is not a set of indices; write it as 0-3,5,7-9")
        indices.extend(range(int(first), int(last or first) + 1))
    if any(b <= a for a, b in itertools.pairwise(indices)):
        raise PlanError(f"'{text}' is not ascending; write it as 0-3,5,7-9")
    return indices
