"""The size of a unit's weights, by hand."""

from __future__ import annotations

import pytest
import torch
from unit_groups import drawn, mlp

from swm.pruners.magnitude import Magnitude

GROUP = mlp([[3.0, 0.0], [1.0, -1.0]], [[0.0, -4.0], [1.0, 1.0]])


def test_by_hand() -> None:
    assert Magnitude("l1").score(GROUP).tolist() == [7.0, 4.0]
    assert Magnitude("l2").score(GROUP).tolist() == [5.0, 2.0]
    assert Magnitude() == Magnitude("l2")


@pytest.mark.parametrize(("norm", "order"), [("l1", 1), ("l2", 2)])
def test_it_is_the_norm_of_all_weights_of_the_unit(norm, order) -> None:
    group = drawn(3, (8, 4, 4, 8), "attention")
    expected = [
        torch.cat([w.weight.reshape(3, -1)[unit] for w in group.weights]).norm(p=order).item() for unit in range(3)
    ]
    torch.testing.assert_close(Magnitude(norm).score(group), torch.tensor(expected))
