"""The samples of a mix of several sources: how many of each, and all of them as one text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from swm.errors import TextError
from swm.interfaces.text import Calibration, Share
from swm.text.shares import apportioned, interleaved


def sample_counts(parts: Sequence[Share], samples: int) -> list[int]:
    """How many samples each source gives, by the largest remainder. Raises TextError where that is none."""
    counts = apportioned(samples, [part.share for part in parts])
    for part, count in zip(parts, counts, strict=True):
        if not count:
            raise TextError(
                f"a share of {part.share:g} of {samples} samples is none of text '{part.text.title()}'; take more "
                "samples or a larger share, or leave it out"
            )
    return counts


def joined_samples(
    drawn: Sequence[Calibration], titles: Sequence[str], source: dict[str, Any], seed: int
) -> Calibration:
    """One text of the samples of several sources, each of them evenly among all.

    Args:
        drawn: The samples of each source.
        titles: What each source is called.
        source: The name and the parameters of the mix.
        seed: The seed that they were drawn with.
    """
    order = interleaved([len(one.ids) for one in drawn])
    rows = [iter(one.ids) for one in drawn]
    how = {title: dict(one.drawn) for title, one in zip(titles, drawn, strict=True) if one.drawn}
    return Calibration(
        torch.stack([next(rows[i]) for i in order]),
        source,
        seed,
        {"drawn": how} if how else {},
        titles=tuple(titles[i] for i in order),
    )
