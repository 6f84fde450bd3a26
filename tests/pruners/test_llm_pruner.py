"""LLM-Pruner's Taylor importance, by hand."""

from __future__ import annotations

import pytest
import torch
from unit_groups import drawn, mlp

from swm.interfaces.width import CoupledWeight, UnitGroup
from swm.pruners.llm_pruner import LLMPruner

UP, DOWN = [[1.0, -2.0], [3.0, 0.0]], [[2.0, 1.0], [-1.0, 4.0]]
GRADIENTS = ([[1.0, 1.0], [-1.0, 5.0]], [[0.5, -1.0], [2.0, 0.25]])
SQUARES = ([[1.0, 2.0], [1.0, 0.0]], [[1.0, 0.0], [4.0, 0.5]])
GROUP = mlp(UP, DOWN, GRADIENTS, SQUARES)


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        # up: |1|+|-2| and |-3|+0; down: |1|+|-1| and |-2|+|1|
        ("first", [3.0 + 2.0, 3.0 + 3.0]),
        # the absolute values of the signed sums
        ("vector", [1.0 + 0.0, 3.0 + 1.0]),
        # w h w: up 1+8 and 9+0; down 4+0 and 4+8
        ("second", [9.0 + 4.0, 9.0 + 12.0]),
        # w g - w h w / 2: up |1-.5|+|-2-4| and |-3-4.5|+0; down |1-2|+|-1-0| and |-2-2|+|1-4|
        ("mixed", [6.5 + 2.0, 7.5 + 7.0]),
    ],
)
def test_the_elements(element, expected) -> None:
    assert LLMPruner(element=element).score(GROUP).tolist() == expected


@pytest.mark.parametrize(
    ("grouping", "expected"), [("sum", [5.0, 6.0]), ("mean", [2.5, 3.0]), ("max", [3.0, 3.0]), ("last", [2.0, 3.0])]
)
def test_the_groupings(grouping, expected) -> None:
    assert LLMPruner(grouping=grouping).score(GROUP).tolist() == expected


def attention(query: list[float], key: list[float], units: int) -> UnitGroup:
    """Matrices of one column with gradients of 1, so that a channel counts its weight."""
    one = {"gradient": None, "squared_gradient": None}
    weights = [
        CoupledWeight(name, torch.tensor(w)[:, None], reads, torch.ones(len(w), 1), one["squared_gradient"])
        for name, w, reads in (("q", query, False), ("k", key, False), ("o", [0.0] * len(query), True))
    ]
    return UnitGroup(0, "attention", units, weights)


def test_grouped_queries_are_folded_onto_the_head_that_they_share() -> None:
    # 2 KV heads of 2 channels, 2 query heads to each: query heads 0 and 1 read KV head 0.
    group = attention([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0], [0.25, 0.5, 0.125, 0.0], 2)
    assert LLMPruner().score(group).tolist() == [15 + 0.75, 240 + 0.125]
    # The released code adds query channel c to KV channel c modulo 4: query heads 0 and 2 go to KV head 0.
    assert LLMPruner(fold="released").score(group).tolist() == [3 + 48 + 0.75, 12 + 192 + 0.125]


def test_max_compares_channel_by_channel_after_folding() -> None:
    group = attention([1.0, 2.0, 4.0, 8.0], [6.0, 1.0], 1)
    # Folded queries: 1 + 4 and 2 + 8.
    assert LLMPruner(grouping="max").score(group).tolist() == [6.0 + 10.0]
    assert LLMPruner(grouping="max", fold="released").score(group).tolist() == [6.0 + 10.0]


@pytest.mark.parametrize("element", ["first", "second", "mixed", "vector"])
def test_the_two_folds_are_one_without_grouped_queries(element) -> None:
    plain, grouped = drawn(4, (4, 4, 4, 4), "attention"), drawn(4, (8, 4, 4, 8), "attention")
    ours, released = LLMPruner(element=element), LLMPruner(element=element, fold="released")
    assert torch.equal(ours.score(plain), released.score(plain))
    assert not torch.allclose(ours.score(grouped), released.score(grouped))
