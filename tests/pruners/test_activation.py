"""Minitron's mean absolute activation, by hand."""

from __future__ import annotations

from unit_groups import mlp, statistics

from swm.pruners.activation import Activation

INPUTS = statistics([[3.0, 1.0, 0.0, 1.0], [-4.0, 0.0, 0.0, -2.0]])


def test_by_hand() -> None:
    group = mlp([[0.0]] * 4, [[9.0]] * 4, inputs=INPUTS)
    assert Activation().score(group).tolist() == [3.5, 0.5, 0.0, 1.5]


def test_a_head_counts_the_sum_of_its_channels() -> None:
    group = mlp([[0.0]] * 4, [[9.0]] * 4, inputs=INPUTS, part="attention", units=2)
    assert Activation().score(group).tolist() == [4.0, 1.5]
