"""How many units each layer keeps, so that a number of parameters goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from swm.errors import BudgetError
from swm.model.units import Block, Geometry, Part, block
from swm.model.view import ModelView

Key = tuple[int, Part]


@dataclass(frozen=True)
class Allocation:
    """The number of units that each (position, part) keeps, and what the report should say."""

    kept: dict[Key, int]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Group:
    units: int
    each: int
    """Parameters of one unit."""


def allocate_locally(
    view: ModelView,
    scores: Mapping[Key, Tensor],
    goal: float,
    rounding: Mapping[Part, int],
    share: float | None = None,
    head_counts: Sequence[int] | None = None,
) -> Allocation:
    """One share of every layer, as LLM-Pruner: the given one, or that which comes nearest to `goal` parameters.

    `head_counts` are the only numbers of KV or query heads to end with, if not all are fine; more are kept then.
    Raises BudgetError as `check_goal`, and for a share that rounding makes nothing of.
    """
    groups = _groups(view, scores)
    shapes = {position: view.layer(position).geometry for position, _ in groups}

    def kept(attention: float, mlp: float) -> dict[Key, int]:
        shares: dict[Part, float] = {"attention": attention, "queries": attention, "mlp": mlp}
        return {
            key: _possible(keep_of_share(shapes[key[0]], key[1], shares[key[1]]), group, key, rounding, head_counts)
            for key, group in groups.items()
        }

    if share is not None:
        chosen = kept(share, share)
        if _removed(groups, chosen) == 0:
            raise BudgetError(f"layer_ratio: {share} of a layer's units is less than one rounding step")
        return Allocation(chosen, {"layer_ratio": share, "planned_params": _removed(groups, chosen)})
    check_goal(view, list(groups), goal, rounding, True, head_counts)
    both = _bisect(lambda s: _removed(groups, kept(s, s)), goal)
    # Heads come in large steps: those of the share below stay, and channels fill the rest.
    attention = both[0]
    mlp = min(
        _bisect(lambda s: _removed(groups, kept(attention, s)), goal),
        key=lambda s: abs(_removed(groups, kept(attention, s)) - goal),
    )
    if not any(part == "mlp" for _, part in groups):
        attention = min(both, key=lambda s: abs(_removed(groups, kept(s, s)) - goal))
    chosen = kept(attention, mlp)
    facts = {"attention_share": round(attention, 6), "mlp_share": round(mlp, 6)}
    return Allocation(chosen, {**facts, "planned_params": _removed(groups, chosen)})


def _bisect(removed: Callable[[float], int], goal: float) -> tuple[float, float]:
    """The shares just below and just above which at least `goal` parameters go."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if removed(middle) < goal else (low, middle)
    return low, high


def keep_of_share(shape: Geometry, part: Part, share: float) -> int:
    """How many units stay when `share` of a layer goes, before rounding.

    The released LLM-Pruner counts channels, `n = C - int(C (1 - share))`, and removes `n // head_dim` whole heads.
    Source: arXiv 2305.11627 and its released block-wise mode.
    """
    if part != "mlp":
        channels = shape.units(part) * shape.head_dim
        return shape.units(part) - (channels - int(channels * (1 - share))) // shape.head_dim
    return int(shape.mlp * (1 - share))


def round_units(kept: int, units: int, round_to: int) -> int:
    """The nearest multiple of `round_to`, at least one and at most what there is (which stays allowed as it is)."""
    if kept >= units:
        return units
    return min(units, max(round_to, round(kept / round_to) * round_to))


def default_rounding(channels: int) -> int:
    """Multiples of 32 channels, which hardware likes; fewer where that would be coarser than a sixteenth."""
    size = 32
    while size > 1 and channels // size < 16:
        size //= 2
    return size


def allocate_globally(
    view: ModelView, scores: Mapping[Key, Tensor], goal: float, rounding: Mapping[Part, int], standardised: bool
) -> Allocation:
    """All units of all layers compete; those with the lowest scores for their parameters go until the goal is met.

    With `standardised`, each group's scores are first brought to mean 0 and deviation 1 (FLAP's AL-AM).
    """
    groups = _groups(view, scores)
    values = {key: in_deviations(score) if standardised else score for key, score in scores.items()}
    check_goal(view, list(groups), goal, rounding, False)
    flat = torch.cat([values[key] for key in groups])
    owner = torch.cat([torch.full((group.units,), i) for i, group in enumerate(groups.values())])
    order = torch.sort(flat, stable=True).indices

    def kept(count: int) -> dict[Key, int]:
        gone = torch.bincount(owner[order[:count]], minlength=len(groups)).tolist()
        return {
            key: round_units(max(group.units - n, 0), group.units, rounding[key[1]])
            for (key, group), n in zip(groups.items(), gone, strict=True)
        }

    low, high = 0, len(flat)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _removed(groups, kept(middle)) < goal else (low, middle)
    count = min((low, high), key=lambda c: abs(_removed(groups, kept(c)) - goal))
    return Allocation(kept(count), {"planned_params": _removed(groups, kept(count))})


def in_deviations(score: Tensor) -> Tensor:
    """How many deviations each score `[units]` lies above their mean: none where all are equal, or there is one."""
    spread = score.std() if len(score) > 1 else score.new_zeros(())
    # What rounding makes of equal scores is no difference.
    equal = spread <= torch.finfo(score.dtype).eps * score.abs().max()
    return torch.zeros_like(score) if equal else (score - score.mean()) / spread


def check_goal(
    view: ModelView,
    keys: Sequence[Key],
    goal: float,
    rounding: Mapping[Part, int],
    local: bool,
    head_counts: Sequence[int] | None = None,
) -> None:
    """Raise BudgetError when not so many parameters can go, or when nothing is nearer to the goal than one step."""
    check_capacity(view, keys, goal, rounding, head_counts)
    least = smallest_step(view, keys, rounding, local, head_counts)
    if goal <= least / 2:
        where = "all layers" if local else "a layer"
        raise BudgetError(
            f"target asks to remove {goal:,.0f} parameters; one rounding step in {where} removes {least:,}. Use a "
            f"larger target or a smaller rounding{', or scope: global with uniform: false' if local else ''}"
        )


def check_capacity(
    view: ModelView,
    keys: Sequence[Key],
    goal: float,
    rounding: Mapping[Part, int],
    head_counts: Sequence[int] | None = None,
) -> None:
    """Raise BudgetError when not so many parameters can go."""
    groups = _groups(view, keys)
    most = _removed(groups, {key: _possible(0, group, key, rounding, head_counts) for key, group in groups.items()})
    if goal > most:
        raise BudgetError(
            f"target asks to remove {goal:,.0f} parameters; these units and layers hold {most:,} that can go"
        )


def smallest_step(
    view: ModelView,
    keys: Sequence[Key],
    rounding: Mapping[Part, int],
    local: bool,
    head_counts: Sequence[int] | None = None,
) -> int:
    """The fewest parameters that can go, 0 when none can: a step in one place or, if `local`, in all layers.

    A local allocation moves channels first, where there are any to move.
    """
    steps: dict[Block, list[int]] = {"mlp": [], "attention": []}
    for key, group in _groups(view, keys).items():
        reachable = (_possible(n, group, key, rounding, head_counts) for n in range(group.units - 1, 0, -1))
        kept = next((n for n in reachable if n < group.units), group.units)
        steps[block(key[1])].append((group.units - kept) * group.each)
    if local:
        return sum(steps["mlp"]) or sum(steps["attention"])
    return min(filter(None, steps["mlp"] + steps["attention"]), default=0)


def best_units(score: Tensor, kept: int, groups: int = 1) -> list[int]:
    """The `kept` units `[units]` of highest score, ascending, as many from each of the equal groups.

    Of equal scores the lower unit stays: the same on every machine.
    """
    rows = score.reshape(groups, -1)
    best = torch.sort(rows, dim=1, descending=True, stable=True).indices[:, : kept // groups]
    return sorted((best + rows.shape[1] * torch.arange(groups)[:, None]).flatten().tolist())


def _possible(
    kept: int, group: _Group, key: Key, rounding: Mapping[Part, int], head_counts: Sequence[int] | None
) -> int:
    """The number of units that stays where so many are asked for."""
    rounded = round_units(kept, group.units, rounding[key[1]])
    return rounded if head_counts is None or key[1] == "mlp" else min(n for n in head_counts if n >= rounded)


def _groups(view: ModelView, scores: Iterable[Key]) -> dict[Key, _Group]:
    groups: dict[Key, _Group] = {}
    for position, part in sorted(scores):
        layer = view.layer(position)
        groups[position, part] = _Group(layer.units(part), layer.unit_parameters(part))
    return groups


def _removed(groups: Mapping[Key, _Group], kept: Mapping[Key, int]) -> int:
    return sum((group.units - kept[key]) * group.each for key, group in groups.items())
