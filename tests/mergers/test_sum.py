"""The sum of layers, which the released ablation calls average."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from swm.interfaces.merger import LayerWindow
from swm.mergers.sum import Sum


def test_layers_5_7_11_become_23_and_keep_the_bottom_norm() -> None:
    states = [{"mlp.up.weight": torch.tensor(v), "norms.a.weight": torch.tensor(v)} for v in (5.0, 7.0, 11.0)]
    merged = Sum().merge(LayerWindow(states))
    assert merged["mlp.up.weight"] == 23
    assert merged["norms.a.weight"] == 5


@pytest.mark.parametrize(("norms", "expected"), [("bottom", 1.0), ("top", 6.0), ("mean", 3.0)])
def test_norms_are_never_summed(norms: str, expected: float) -> None:
    window = LayerWindow([{"norms.a.weight": torch.tensor(v)} for v in (1.0, 2.0, 6.0)])
    assert Sum(norms=norms).merge(window)["norms.a.weight"] == expected  # type: ignore[arg-type]


def test_it_is_the_running_sum_of_the_released_ablation() -> None:
    values = [torch.randint(-64, 64, (5, 4)) / 1024 for _ in range(5)]
    running: Tensor = values[0].clone()
    for value in values[1:]:
        running += value
    assert torch.equal(Sum().merge(LayerWindow([{"mlp.up.weight": v} for v in values]))["mlp.up.weight"], running)


def test_the_weights_of_unrelated_layers_grow_by_the_root_of_their_number() -> None:
    window = LayerWindow([{"mlp.up.weight": torch.randn(300, 300)} for _ in range(4)])
    assert float(Sum().merge(window)["mlp.up.weight"].std()) == pytest.approx(2, rel=0.03)
