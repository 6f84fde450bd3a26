"""The sets of windows and channel cuts that remove enough parameters for the least sum of costs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from swm.builtin.stages.allocation_search import Removal, cheapest_removals
from swm.model.windows import Window


def window(first: int, last: int, parameters: int, cost: float) -> Removal:
    return Removal((Window(first, last),), (), parameters, cost)


def cut(position: int, share: float, parameters: int, cost: float) -> Removal:
    return Removal((), ((position, share),), parameters, cost)


def test_the_cheapest_set_is_found_among_all_sets() -> None:
    generator = torch.Generator().manual_seed(0)
    cost = lambda: float(torch.rand((), generator=generator))  # noqa: E731
    options = [cut(i, share, round(40 * share), cost() * share) for i in range(6) for share in (0.25, 0.5)]
    options += [window(i, i + n, 100 * n, cost() * 2 * n) for i in range(5) for n in (1, 2) if i + n < 6]
    for goal in (60.0, 150.0, 240.0):
        found = cheapest_removals(options, 6, goal, 3)

        def spans(chosen: tuple[Removal, ...]) -> list[int]:
            windows = [range(w.first, w.last + 1) for option in chosen for w in option.windows]
            return [*itertools.chain(*windows), *(position for option in chosen for position, _ in option.cuts)]

        able = [
            sum(option.cost for option in chosen)
            for size in range(1, 7)
            for chosen in itertools.combinations(options, size)
            if abs(sum(option.saved for option in chosen) - goal) <= 0.01 * goal
            and len(set(spans(chosen))) == len(spans(chosen))
        ]
        assert found[0].cost == pytest.approx(min(able))
        assert [each.cost for each in found] == sorted(each.cost for each in found)
        assert all(abs(each.saved - goal) <= 0.01 * goal for each in found)


def test_no_set_is_found_for_what_cannot_be_reached() -> None:
    assert cheapest_removals([cut(0, 0.5, 10, 1.0)], 3, 100.0, 2) == []
    assert cheapest_removals([cut(0, 0.5, 100, math.nan)], 3, 100.0, 2) == []
    # What comes nearest is better than nothing where the steps are large.
    assert cheapest_removals([cut(0, 0.5, 80, 1.0)], 3, 100.0, 2)[0].saved == 80
