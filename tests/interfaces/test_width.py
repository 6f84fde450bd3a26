"""What a width pruner is given: a group of units, and an error where it reads what it did not ask for."""

from __future__ import annotations

import pytest
import torch
from unit_groups import mlp, statistics

from swm.errors import PlanError
from swm.interfaces.width import CoupledWeight


def test_what_a_pruner_asked_for_is_given() -> None:
    inputs = statistics([[1.0, 2.0], [3.0, 4.0]])
    assert mlp([[1.0], [2.0]], [[1.0], [2.0]], inputs=inputs).required_inputs is inputs
    gradient, square = torch.ones(2, 1), torch.zeros(2, 1)
    weight = CoupledWeight("up", torch.ones(2, 1), False, gradient, square)
    assert weight.required_gradient is gradient
    assert weight.required_squared_gradient is square


@pytest.mark.parametrize("need", ["gradients", "squared_gradients", "inputs"])
def test_what_a_pruner_did_not_ask_for_is_an_error_that_names_it(need: str) -> None:
    group = mlp([[1.0], [2.0]], [[1.0], [2.0]])
    with pytest.raises(PlanError, match=rf"reads '{need}', which its needs\(\) does not name"):
        _ = {
            "gradients": lambda: group.reader.required_gradient,
            "squared_gradients": lambda: group.reader.required_squared_gradient,
            "inputs": lambda: group.required_inputs,
        }[need]()


def test_channels_are_folded_to_their_units() -> None:
    group = mlp([[1.0]] * 4, [[1.0]] * 4, part="attention", units=2)
    assert group.per_unit(torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist() == [3.0, 7.0]
    assert group.per_unit(torch.tensor([1.0, 2.0, 3.0, 4.0]), lambda rows: rows.amax(dim=1)).tolist() == [2.0, 4.0]
