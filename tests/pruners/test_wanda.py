"""Wanda-sp, by hand."""

from __future__ import annotations

import torch
from unit_groups import mlp, statistics

from swm.pruners.wanda import Wanda

# Norms of the inputs over the tokens: 5, 2 and 0.
INPUTS = statistics([[3.0, 2.0, 0.0], [-4.0, 0.0, 0.0]])
DOWN = [[1.0, -3.0], [4.0, 0.0], [9.0, 9.0]]


def test_by_hand() -> None:
    score = Wanda().score(mlp([[0.0]] * 3, DOWN, inputs=INPUTS))
    torch.testing.assert_close(score, torch.tensor([2.0 * 5, 2.0 * 2, 0.0]))


def test_a_head_counts_the_sum_of_its_channels() -> None:
    inputs = statistics([[3.0, 2.0, 0.0, 1.0], [-4.0, 0.0, 0.0, 0.0]])
    group = mlp([[0.0]] * 4, [*DOWN, [2.0, 2.0]], inputs=inputs, part="attention", units=2)
    torch.testing.assert_close(Wanda().score(group), torch.tensor([14.0, 2.0]))
