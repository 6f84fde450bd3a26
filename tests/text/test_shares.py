"""Shares of several sources: whole numbers by the largest remainder, evenly, and by size."""

from __future__ import annotations

import pytest

from swm.text.shares import apportioned, by_shares, interleaved


@pytest.mark.parametrize(
    ("total", "shares", "counts"),
    [
        (10, [0.7, 0.3], [7, 3]),
        (8, [0.7, 0.3], [6, 2]),  # 5.6 and 2.4
        (4, [0.5, 0.25, 0.25], [2, 1, 1]),
        (3, [0.5, 0.5], [2, 1]),
        (1, [0.1, 0.9], [0, 1]),
    ],
)
def test_counts_are_those_of_the_largest_remainders(total: int, shares: list[float], counts: list[int]) -> None:
    assert apportioned(total, shares) == counts


def test_any_first_samples_hold_about_the_shares_of_all() -> None:
    assert interleaved([6, 2]) == [0, 0, 1, 0, 0, 0, 1, 0]
    order = interleaved([70, 30])
    assert all(abs(order[:n].count(1) - 0.3 * n) <= 1 for n in range(1, 101))


def test_rows_are_taken_by_size_until_a_source_ends() -> None:
    rows, sizes = [["a", "b", "c"], ["x", "y"]], [[10, 10, 10], [5, 5]]
    assert by_shares(rows, sizes, [0.5, 0.5]) == (["a", "x", "y", "b"], 1)
    assert by_shares(rows, sizes, [0.5, 0.5], limit=3) == (["a", "x", "y"], None)
    assert by_shares(rows, sizes, [2 / 3, 1 / 3]) == (["a", "x", "b", "y", "c"], 1)
