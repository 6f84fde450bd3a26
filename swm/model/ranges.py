"""Index sets as text: `0-3,5,7-9`. A plan of a large model stays short and quick to read."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from swm.errors import PlanError, quoted

# More than a layer has channels, and a model layers.
MOST = 2**20


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
    for part in str(text).split(",") if str(text).strip() else []:
        numbers = re.fullmatch(r"\s*(\d{1,18})(?:\s*-\s*(\d{1,18}))?\s*", part, re.ASCII)
        if numbers is None:
            raise PlanError(f"{quoted(str(text))} is not a set of indices; write it as 0-3,5,7-9")
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        if last - first + len(indices) >= MOST:
            raise PlanError(f"{quoted(str(text))} names more than {MOST:,} indices")
        # Backwards it would be an empty range; its two ends fail the check below.
        indices.extend(range(first, last + 1) if first <= last else (first, last))
    if any(b <= a for a, b in itertools.pairwise(indices)):
        raise PlanError(f"{quoted(str(text))} is not ascending; write it as 0-3,5,7-9")
    return indices
