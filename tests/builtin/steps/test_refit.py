"""A refit step writes the fitted parameters of one projection and nothing else."""

from __future__ import annotations

import pytest
import torch

from swm.builtin.steps.refit import RefitStep
from swm.errors import PlanError
from swm.model.view import ModelView


def test_the_fitted_weight_takes_the_place_of_the_present_one(llama: ModelView) -> None:
    before = {key: value.clone() for key, value in llama.state(2).items()}
    fitted = torch.ones_like(before["mlp.down.weight"])
    RefitStep(2, "mlp.down").apply(llama, {"mlp.down.weight": fitted})
    after = llama.state(2)
    assert torch.equal(after["mlp.down.weight"], fitted)
    assert all(torch.equal(after[key], before[key]) for key in before if key != "mlp.down.weight")


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("mlp.up.weight", (64, 32), "refits mlp.down of layer 2; the tensors hold mlp.up.weight"),
        ("mlp.down.weight", (3, 3), r"layer 2: mlp.down.weight fitted as \(3, 3\); the model has \(32, 64\)"),
        ("mlp.down.bias", (32,), r"layer 2: mlp.down.bias fitted as \(32,\); the model has none"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(
    llama: ModelView, key: str, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        RefitStep(2, "mlp.down").apply(llama, {key: torch.zeros(shape)})
    with pytest.raises(PlanError, match=r"fitted for mlp\.down of layer 2 are missing"):
        RefitStep(2, "mlp.down").apply(llama, {})
