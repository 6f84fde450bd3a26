"""Which experts that go are merged into which that stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from swm.errors import PlanError
from swm.interfaces.expert_merger import ExpertChoice, ExpertMerger

# Shares as plans hold them.
DIGITS = 6


def merged_experts(merger: ExpertMerger, choice: ExpertChoice) -> Mapping[int, Mapping[int, float]]:
    """The share of each expert in those that stay, for the ones that change.

    Raises PlanError where the merger returns no shares `[kept, experts]` that add up to 1.
    """
    shares = merger.shares(choice)
    _check(merger, choice, shares)
    merged = {}
    for expert, row in zip(choice.kept, shares.tolist(), strict=True):
        own = _rounded(row)
        if set(own) != {expert}:
            merged[expert] = own
    return merged


def _rounded(row: Sequence[float]) -> dict[int, float]:
    return {expert: round(share, DIGITS) for expert, share in enumerate(row) if round(share, DIGITS) > 0}


def _check(merger: ExpertMerger, choice: ExpertChoice, shares: Tensor) -> None:
    where = f"expert merger '{merger.name}', layer {choice.layer}"
    if shares.shape != (len(choice.kept), choice.count):
        raise PlanError(f"{where}: found {tuple(shares.shape)} for {len(choice.kept)} of {choice.count} experts")
    if not torch.isfinite(shares).all() or (shares < 0).any() or ((shares.sum(dim=1) - 1).abs() > 1e-5).any():
        raise PlanError(f"{where}: shares must be 0 or more, and those of an expert that stays must add up to 1")
