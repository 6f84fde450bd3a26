"""A projection seen channel by channel, changed and refitted."""

from __future__ import annotations

import pytest
import torch

from swm.fitting.projection import Projection
from swm.fitting.refitting import Change

WEIGHT = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
BIAS = torch.tensor([0.5, -0.5])


def projection(transposed: bool) -> Projection:
    state = {"mlp.down.weight": WEIGHT if transposed else WEIGHT.T.contiguous(), "mlp.down.bias": BIAS}
    return Projection.of(state, "mlp.down", transposed)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_projection_is_seen_channel_by_channel_and_stored_as_it_was(transposed: bool) -> None:
    seen = projection(transposed)
    assert torch.equal(seen.weight, WEIGHT)
    assert seen.output(torch.tensor([1.0, 0.0, 1.0])).tolist() == [6.5, 7.5]
    stored = seen.state()
    assert torch.equal(stored["mlp.down.weight"], WEIGHT if transposed else WEIGHT.T)
    assert stored["mlp.down.weight"].is_contiguous()
    assert torch.equal(stored["mlp.down.bias"], BIAS)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_change_is_added_to_weight_and_bias(transposed: bool) -> None:
    change = Change(torch.ones(3, 2).double(), torch.tensor([1.0, 2.0]).double(), 0.0, None)
    changed = projection(transposed).changed(change)
    assert torch.equal(changed.weight, WEIGHT + 1)
    assert changed.bias is not None
    assert changed.bias.tolist() == [1.5, 1.5]
    assert changed.weight.dtype is torch.float32


def test_what_stays_makes_up_for_a_channel_that_says_the_same() -> None:
    inputs = torch.randn(4, 8, 3)
    inputs[..., 2] = 2 * inputs[..., 0]
    bare = Projection.of({"attention.o.weight": WEIGHT}, "attention.o", True)
    refitted = bare.refitted_without(torch.tensor([False, False, True]), inputs, ridge=0.0)
    assert refitted.bias is None
    torch.testing.assert_close(refitted.weight, torch.tensor([[11.0, 14.0], [3.0, 4.0]]))
