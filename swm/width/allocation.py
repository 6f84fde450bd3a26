"""How many units each layer keeps, so that a number of parameters goes, and which ones they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from swm.errors import BudgetError
from swm.model.units import Geometry, Part
from swm.width.limits import CutLimits, Key


@dataclass(frozen=True)
class Allocation:
    """The number of units that each (position, part) keeps, and what the report should say."""

    kept: dict[Key, int]
    facts: dict[str, Any] = field(default_factory=dict)


def allocate(
    limits: CutLimits,
    scores: Mapping[Key, Tensor],
    standardised: bool,
    goal: float,
    share: float | None = None,
    experts: int | None = None,
) -> Allocation:
    """How many units stay: the first that is given of so many experts fewer, a share of each layer, and the goal.

    Args:
        limits: What limits the cut.
        scores: The score of each unit, `[units]` (`[experts, channels]`), by position and part.
        standardised: As for `allocate_globally`.
        goal: How many parameters should go.
        share: The share of every layer that should go.
        experts: How many experts should go from every layer.

    Raises:
        BudgetError: That cannot be met.
    """
    if experts is not None:
        return allocate_experts(limits, experts)
    if share is not None:
        return allocate_share(limits, share)
    return allocate_locally(limits, goal) if limits.local else allocate_globally(limits, scores, goal, standardised)


def allocate_share(limits: CutLimits, share: float) -> Allocation:
    """That share of every layer, as LLM-Pruner. Raises BudgetError for a share that rounding makes nothing of."""
    kept = _kept_locally(limits, share, share)
    if limits.removed(kept) == 0:
        raise BudgetError(f"layer_ratio: {share} of a layer's units is less than one rounding step")
    return Allocation(kept, {"layer_ratio": share, "planned_params": limits.removed(kept)})


def allocate_locally(limits: CutLimits, goal: float) -> Allocation:
    """The share of every layer that comes nearest to the goal. Raises BudgetError as `check_goal`."""
    limits.check_goal(goal)

    def removed(attention: float, mlp: float) -> float:
        return limits.removed(_kept_locally(limits, attention, mlp))

    both = _bisect(lambda s: removed(s, s), goal)
    # Heads and experts come in large steps: those of the share below stay, and channels fill the rest.
    attention = both[0]
    mlp = _chosen(limits, _bisect(lambda s: removed(attention, s), goal), lambda s: removed(attention, s), goal)
    if not any(part in ("mlp", "expert_channels") for _, part in limits.sizes):
        attention = _chosen(limits, both, lambda s: removed(s, s), goal)
    elif limits.least and removed(attention, mlp) < goal:
        # Channels alone do not fill it.
        attention = both[1]
        mlp = _bisect(lambda s: removed(attention, s), goal)[1]
    kept = _kept_locally(limits, attention, mlp)
    facts = {"attention_share": round(attention, 6), "mlp_share": round(mlp, 6)}
    if limits.experts:
        facts["experts_share"] = facts["attention_share"]
    if limits.channels:
        facts["expert_channels_share"] = facts["mlp_share"]
    return Allocation(kept, {**facts, limits.fact: limits.removed(kept)})


def allocate_experts(limits: CutLimits, count: int) -> Allocation:
    """So many experts fewer in each layer that has some. Raises BudgetError where rounding does not let that be."""
    kept = {key: limits.possible(limits.units(key) - count, key) for key in limits.sizes}
    for key, left in kept.items():
        if left != limits.units(key) - count:
            raise BudgetError(
                f"target: {count} fewer of {limits.units(key)} experts are no {limits.units(key) - count} that a layer "
                f"can keep; the nearest is {left}"
            )
    return Allocation(kept, {"experts": count, "planned_params": limits.removed(kept)})


def _kept_locally(limits: CutLimits, attention: float, mlp: float) -> dict[Key, int]:
    """The units that stay when these shares of the heads and of the channels of each layer go."""
    shares: dict[Part, float] = {"attention": attention, "queries": attention, "experts": attention, "mlp": mlp}
    shares["expert_channels"] = mlp
    kept = {}
    for position, part in limits.sizes:
        if part == "expert_channels":
            asked = int(limits.units((position, part)) * (1 - shares[part]))
        elif part == "experts":
            asked = round(limits.units((position, part)) * (1 - shares[part]))
        else:
            asked = kept_after_share(limits.shapes[position], part, shares[part])
        kept[position, part] = limits.possible(asked, (position, part))
    return kept


def _chosen(limits: CutLimits, shares: tuple[float, float], removed: Callable[[float], float], goal: float) -> float:
    """The share that comes nearest to the goal; the one above where less is not enough.

    Args:
        limits: What limits the cut.
        shares: Those just below and just above the goal.
        removed: What goes with a share.
        goal: How much should go.
    """
    return shares[1] if limits.least else min(shares, key=lambda s: abs(removed(s) - goal))


def _bisect(removed: Callable[[float], float], goal: float) -> tuple[float, float]:
    """The shares just below and just above which at least `goal` parameters go."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if removed(middle) < goal else (low, middle)
    return low, high


def kept_after_share(shape: Geometry, part: Part, share: float) -> int:
    """How many units stay when `share` of a layer goes, before rounding.

    The released LLM-Pruner counts channels, `n = C - int(C (1 - share))`, and removes `n // head_dim` whole heads.
    Source: arXiv 2305.11627 and its released block-wise mode.
    """
    if part != "mlp":
        channels = shape.units(part) * shape.head_dim
        return shape.units(part) - (channels - int(channels * (1 - share))) // shape.head_dim
    return int(shape.mlp * (1 - share))


def allocate_globally(limits: CutLimits, scores: Mapping[Key, Tensor], goal: float, standardised: bool) -> Allocation:
    """All units of all layers compete; those with the lowest scores for their parameters go until the goal is met.

    Args:
        limits: What limits the cut.
        scores: The score of each unit, `[units]` (`[experts, channels]`), by position and part.
        goal: How many parameters should go.
        standardised: Bring each group's scores to mean 0 and deviation 1 first (FLAP's AL-AM).

    Raises:
        BudgetError: As `check_goal`.
    """
    limits.check_goal(goal)
    flat_scores = {key: by_rank(score) for key, score in scores.items()}
    values = {key: z_scores(score) if standardised else score for key, score in flat_scores.items()}
    flat = torch.cat([values[key] for key in limits.sizes])
    owner = torch.cat([torch.full((limits.units(key),), i) for i, key in enumerate(limits.sizes)])
    order = torch.sort(flat, stable=True).indices

    def kept(count: int) -> dict[Key, int]:
        gone = torch.bincount(owner[order[:count]], minlength=len(limits.sizes)).tolist()
        return {
            key: limits.possible(max(limits.units(key) - n, 0), key) for key, n in zip(limits.sizes, gone, strict=True)
        }

    low, high = 0, len(flat)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if limits.removed(kept(middle)) < goal else (low, middle)
    count = high if limits.least else min((low, high), key=lambda c: abs(limits.removed(kept(c)) - goal))
    return Allocation(kept(count), {limits.fact: limits.removed(kept(count))})


def by_rank(score: Tensor) -> Tensor:
    """What goes with each unit, `[units]`: of experts `[experts, channels]`, the sum over their channels of one rank.

    Each expert keeps channels of its own choice, so that the n-th best of each of them go together.
    """
    return score if score.dim() == 1 else score.sort(dim=1, descending=True).values.sum(dim=0)


def z_scores(score: Tensor) -> Tensor:
    """How many deviations each score `[units]` lies above their mean: none where all are equal, or there is one."""
    spread = score.std() if len(score) > 1 else score.new_zeros(())
    # Equal scores may differ by rounding errors.
    equal = spread <= torch.finfo(score.dtype).eps * score.abs().max()
    return torch.zeros_like(score) if equal else (score - score.mean()) / spread


def best_units(score: Tensor, kept: int, groups: int = 1) -> list[int]:
    """The `kept` units `[units]` of highest score, ascending, as many from each of the equal groups.

    Of equal scores the lower unit stays: the same on every machine.
    """
    rows = score.reshape(groups, -1)
    best = torch.sort(rows, dim=1, descending=True, stable=True).indices[:, : kept // groups]
    return sorted((best + rows.shape[1] * torch.arange(groups)[:, None]).flatten().tolist())
