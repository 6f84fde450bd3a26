"""Budgets: which points removed the same, so that they may be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from swm.study.points import Point

# Removed shares without a common target that differ by less than this many points are one budget.
SAME_BUDGET = 1.5
# With less than this many percent gone, there is nothing to compare.
NOTHING = 0.05


def budgets(points: Sequence[Point]) -> list[list[Point]]:
    """The points that removed about as much, by how much that is.

    Those that meet one target, as well as whole layers and heads allow, are one budget, and those of two targets never
    are. What has no target in a share of the parameters joins the budget that it is nearest to.
    """
    able = sorted((p for p in points if _removed(p) > NOTHING), key=_removed)
    named: dict[str, list[Point]] = {}
    for point in [point for point in able if point.asked]:
        named.setdefault(point.asked, []).append(point)
    groups = list(named.values())
    alone = []
    for chain in _chains([point for point in able if not point.asked]):
        distances = [min(abs(_removed(a) - _removed(b)) for a in chain for b in group) for group in groups]
        distance, nearest = min(((far, i) for i, far in enumerate(distances)), default=(SAME_BUDGET + 1, 0))
        if distance <= SAME_BUDGET:
            groups[nearest] = sorted([*groups[nearest], *chain], key=_removed)
        else:
            alone.append(chain)
    return sorted([*groups, *alone], key=lambda group: _removed(group[0]))


def _removed(point: Point) -> float:
    return point.estimates["ratio"].value


def _chains(ordered: Sequence[Point]) -> list[list[Point]]:
    groups: list[list[Point]] = [list(ordered[:1])] if ordered else []
    for before, point in pairwise(ordered):
        if _removed(point) - _removed(before) > SAME_BUDGET:
            groups.append([])
        groups[-1].append(point)
    return groups


def asked(recipe: Mapping[str, Any], removed: float, layers: float | None) -> str:
    """The budget that a recipe asks for: `20 %`; empty without one, and where the result misses it.

    A result meets a share within the size of a layer, which is the largest unit that anything is removed in.

    Args:
        recipe: The recipe as plain data.
        removed: How many percent of the parameters are gone.
        layers: The number of layers of the original model; None where it is not known.
    """
    budget = {key: value for key, value in (recipe.get("budget") or {}).items() if value is not None}
    budget.pop("depth_share", None)
    if not budget:
        stages = [settings or {} for stage in recipe.get("stages") or () for settings in stage.values()]
        targets = [stage["target"] for stage in stages if isinstance(stage.get("target"), Mapping)]
        given = [{key: value for key, value in target.items() if value is not None} for target in targets]
        budget = given[0] if len(given) == 1 and given[0].keys() == {"ratio"} else {}
    if budget.keys() == {"ratio"}:
        step = max(SAME_BUDGET, 100 / layers if layers else 0.0)
        return f"{100 * budget['ratio']:g} %" if abs(removed - 100 * budget["ratio"]) <= step else ""
    return ", ".join(f"{key} {_written(value)}" for key, value in sorted(budget.items()))


def _written(value: Any) -> str:
    return str(value) if isinstance(value, int | float | str) else json.dumps(value, sort_keys=True)
