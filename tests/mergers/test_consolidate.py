"""The merge of Sliding-Window Merging and LaCo, as released and as printed."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from swm.interfaces.merger import LayerWindow
from swm.mergers.consolidate import Consolidate
from swm.model.state import State

TELESCOPED, LITERAL = Consolidate("telescoped"), Consolidate("literal")


def scalars(*values: float) -> LayerWindow:
    """Layers of one weight each, with a norm that is a hundred times as large."""
    return LayerWindow([{"mlp.up.weight": torch.tensor(v), "norms.a.weight": torch.tensor(100 * v)} for v in values])


def layers(count: int, dtype: torch.dtype = torch.float32, exact: bool = False) -> list[State]:
    """Random layers; `exact` ones have weights whose sums and differences float32 represents exactly."""

    def weight(*shape: int) -> Tensor:
        return torch.randint(-64, 64, shape) / 1024 if exact else 0.02 * torch.randn(shape)

    shapes = {
        "attention.q.weight": (8, 6),
        "attention.q.bias": (8,),
        "mlp.down.weight": (6, 12),
        "norms.input_layernorm.weight": (6,),
    }
    return [{key: weight(*shape).to(dtype) for key, shape in shapes.items()} for _ in range(count)]


def released(states: list[State], factor: float = 1.0) -> dict[str, Tensor]:
    """The released loop: the difference to the weight as updated so far is added, for projections alone."""
    merged = {key: value.clone() for key, value in states[0].items()}
    for state in states:
        for key in merged:
            if not key.startswith("norms."):
                merged[key] += (state[key] - merged[key]) * factor
    return merged


def printed(values: list[Tensor]) -> Tensor:
    """The equation of the papers in double precision."""
    bottom = values[0].double()
    return bottom + sum(value.double() - bottom for value in values[1:])


def test_layers_5_7_11_become_11_as_released_and_13_as_printed() -> None:
    assert TELESCOPED.merge(scalars(5, 7, 11))["mlp.up.weight"] == 11
    assert LITERAL.merge(scalars(5, 7, 11))["mlp.up.weight"] == 5 + (7 - 5) + (11 - 5)


def test_the_released_formula_is_the_default() -> None:
    assert Consolidate() == Consolidate("telescoped", norms="bottom")


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_telescoped_is_the_top_layers_projections_with_the_bottom_layers_norms(count: int) -> None:
    states = layers(count)
    merged = TELESCOPED.merge(LayerWindow(states))
    for key in ("attention.q.weight", "attention.q.bias", "mlp.down.weight"):
        assert torch.equal(merged[key], states[-1][key])
    key = "norms.input_layernorm.weight"
    assert torch.equal(merged[key], states[0][key])


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_telescoped_is_the_released_loop_exactly_where_float32_does_not_round(count: int) -> None:
    states = layers(count, exact=True)
    merged, expected = TELESCOPED.merge(LayerWindow(states)), released(states)
    assert all(torch.equal(merged[key], expected[key]) for key in expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-7), (torch.float16, 1e-4)])
@pytest.mark.parametrize("count", [2, 5, 9])
def test_telescoped_is_the_released_loop_up_to_its_rounding(count: int, dtype: torch.dtype, tolerance: float) -> None:
    states = layers(count, dtype)
    merged, expected = TELESCOPED.merge(LayerWindow(states)), released(states)
    for key in expected:
        torch.testing.assert_close(merged[key], expected[key], atol=tolerance, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("count", [2, 3, 6])
def test_literal_is_the_printed_equation_rounded_once_to_the_dtype(count: int, dtype: torch.dtype) -> None:
    states = layers(count, dtype)
    merged = LITERAL.merge(LayerWindow(states))
    for key in ("attention.q.weight", "attention.q.bias", "mlp.down.weight"):
        expected = printed([state[key] for state in states])
        torch.testing.assert_close(merged[key], expected.to(dtype), atol=1e-7, rtol=2 * torch.finfo(dtype).eps)
    key = "norms.input_layernorm.weight"
    assert torch.equal(merged[key], states[0][key])


def test_the_two_formulas_are_equal_for_two_layers_and_differ_from_three_on() -> None:
    states = layers(4, exact=True)
    for count, equal in ((2, True), (3, False), (4, False)):
        window = LayerWindow(states[:count])
        telescoped, literal = TELESCOPED.merge(window), LITERAL.merge(window)
        for key in ("attention.q.weight", "attention.q.bias", "mlp.down.weight"):
            assert torch.equal(telescoped[key], literal[key]) is equal


@pytest.mark.parametrize(("count", "growth"), [(3, 1.73), (4, 2.65), (6, 4.58), (8, 6.56)])
def test_literal_blows_up_the_weights_of_unrelated_layers(count: int, growth: float) -> None:
    states = [{"mlp.up.weight": 0.02 * torch.randn(300, 300)} for _ in range(count)]
    k = count - 1
    assert (k + (k - 1) ** 2) ** 0.5 == pytest.approx(growth, abs=0.04)
    measured = float(LITERAL.merge(LayerWindow(states))["mlp.up.weight"].std()) / 0.02
    assert measured == pytest.approx((k + (k - 1) ** 2) ** 0.5, rel=0.03)
    assert float(TELESCOPED.merge(LayerWindow(states))["mlp.up.weight"].std()) == pytest.approx(0.02, rel=0.03)


def test_literal_does_not_overflow_half_precision_on_the_way() -> None:
    # 60000 + (-60000 - 60000) alone is beyond float16; the whole sum is not.
    states = [{"mlp.up.weight": torch.tensor([v], dtype=torch.float16)} for v in (60000.0, -60000.0, 60000.0, 60000.0)]
    assert LITERAL.merge(LayerWindow(states))["mlp.up.weight"] == -60000


@pytest.mark.parametrize("formula", ["telescoped", "literal"])
@pytest.mark.parametrize(("norms", "expected"), [("bottom", 500), ("top", 1100), ("mean", 800)])
def test_norms_follow_their_own_policy(
    formula: Literal["telescoped", "literal"], norms: Literal["bottom", "top", "mean"], expected: float
) -> None:
    merged = Consolidate(formula, norms).merge(scalars(5, 8, 11))
    assert merged["norms.a.weight"] == expected
    assert merged["mlp.up.weight"] == (11 if formula == "telescoped" else 14)
