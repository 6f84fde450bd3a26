"""The moving average through a window."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from swm.interfaces.merger import LayerWindow
from swm.mergers.ema import EMA
from swm.model.state import State


def layers(count: int) -> list[State]:
    shapes = {"attention.v.weight": (5, 4), "attention.v.bias": (5,), "norms.a.weight": (4,)}
    return [{key: torch.randint(-64, 64, shape) / 1024 for key, shape in shapes.items()} for _ in range(count)]


def released(values: list[Tensor], factor: float) -> Tensor:
    """The released loop with its `weight_factor`, starting with the bottom layer itself."""
    result = values[0].clone()
    for value in values:
        result += (value - result) * factor
    return result


@pytest.mark.parametrize(
    ("factor", "expected"),
    # 5 and 7 give 6, 6 and 11 give 8.5; with a quarter 5.5 and then 4.125 + 2.75.
    [(0, 5), (0.25, 6.875), (0.5, 8.5), (1, 11)],
)
def test_layers_5_7_11_move_towards_the_top_by_the_factor(factor: float, expected: float) -> None:
    window = LayerWindow([{"mlp.up.weight": torch.tensor(v)} for v in (5.0, 7.0, 11.0)])
    assert EMA(factor).merge(window)["mlp.up.weight"] == expected


@pytest.mark.parametrize(("factor", "layer"), [(0, 0), (1, -1)])
def test_factor_0_is_the_bottom_layer_and_factor_1_the_top_layer(factor: float, layer: int) -> None:
    states = layers(5)
    merged = EMA(factor).merge(LayerWindow(states))
    assert torch.equal(merged["attention.v.weight"], states[layer]["attention.v.weight"])
    assert torch.equal(merged["attention.v.bias"], states[layer]["attention.v.bias"])
    assert torch.equal(merged["norms.a.weight"], states[0]["norms.a.weight"])


@pytest.mark.parametrize("factor", [0.0, 0.25, 0.5, 1.0])
def test_it_is_the_released_loop_with_that_weight_factor(factor: float) -> None:
    states = layers(4)
    merged = EMA(factor).merge(LayerWindow(states))
    for key in ("attention.v.weight", "attention.v.bias"):
        expected = released([state[key] for state in states], factor)
        torch.testing.assert_close(merged[key], expected, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize(("norms", "expected"), [("bottom", 1.0), ("top", 6.0), ("mean", 3.0)])
def test_norms_follow_their_own_policy(norms: str, expected: float) -> None:
    window = LayerWindow([{"norms.a.weight": torch.tensor(v)} for v in (1.0, 2.0, 6.0)])
    assert EMA(norms=norms).merge(window)["norms.a.weight"] == expected  # type: ignore[arg-type]
