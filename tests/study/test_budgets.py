"""Which points removed the same, so that they may be compared."""

from __future__ import annotations

from typing import Any

import pytest
from study_rows import row

from swm.study.budgets import asked, budgets
from swm.study.points import points


def names(*rows: dict[str, Any]) -> list[list[str]]:
    return [[point.name for point in group] for group in budgets(points(rows))]


def test_what_meets_one_target_is_one_budget_and_two_targets_are_two() -> None:
    depth = {**row("depth", ratio=17.5), "asked": "20 %"}
    width = {**row("width", ratio=20.0), "asked": "20 %"}
    other = {**row("other", ratio=18.0), "asked": "18 %"}
    near, far = row("near", ratio=18.1), row("far", ratio=30.0)
    assert names(width, depth, other, near, far) == [["depth", "width"], ["other", "near"], ["far"]]


@pytest.mark.parametrize(
    ("recipe", "removed", "layers", "found"),
    [
        ({"budget": {"ratio": 0.2, "depth_share": 1.0, "params": None}}, 17.5, 5, "20 %"),
        ({"budget": {"ratio": 0.2}}, 17.5, 30, "20 %"),
        ({"budget": {"ratio": 0.2}}, 15.0, 30, ""),
        ({"budget": {"ratio": 0.2}}, 41.0, 5, ""),
        ({"stages": [{"depth": {"target": {"ratio": 0.25, "layers": None}}}, {"repair": {}}]}, 25.3, None, "25 %"),
        ({"stages": [{"depth": {"target": {"layers": 2}}}]}, 25.3, 5, ""),
        ({"stages": [{"depth": {"pruner": {"name": "sliding-window", "threshold": 0.9}}}]}, 25.3, 5, ""),
        ({"budget": {"memory": "1GiB", "context": 2048, "depth_share": 0.5}}, 31.0, 5, "context 2048, memory 1GiB"),
    ],
)
def test_a_target_is_met_within_the_size_of_a_layer(
    recipe: dict[str, Any], removed: float, layers: float | None, found: str
) -> None:
    assert asked(recipe, removed, layers) == found
