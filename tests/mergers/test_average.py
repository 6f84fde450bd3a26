"""The mean of layers."""

from __future__ import annotations

import pytest
import torch

from swm.interfaces.merger import LayerWindow
from swm.mergers.average import Average
from swm.mergers.sum import Sum


def scalars(*values: float, dtype: torch.dtype = torch.float32) -> LayerWindow:
    keys = ("mlp.up.weight", "mlp.up.bias", "norms.a.weight")
    return LayerWindow([dict.fromkeys(keys, torch.tensor(v, dtype=dtype)) for v in values])


def test_layers_5_7_11_become_their_mean() -> None:
    merged = Average().merge(scalars(5, 7, 11))
    assert float(merged["mlp.up.weight"]) == pytest.approx(7.67, abs=0.005)
    assert float(merged["mlp.up.bias"]) == pytest.approx(23 / 3)
    assert merged["norms.a.weight"] == 5


def test_it_is_the_sum_divided_by_the_number_of_layers() -> None:
    window = LayerWindow([{"mlp.up.weight": torch.randn(5, 4)} for _ in range(6)])
    mean, total = Average().merge(window)["mlp.up.weight"], Sum().merge(window)["mlp.up.weight"]
    torch.testing.assert_close(6 * mean, total)
    assert not torch.allclose(mean, total)


def test_the_weights_of_unrelated_layers_shrink_by_the_root_of_their_number() -> None:
    window = LayerWindow([{"mlp.up.weight": torch.randn(300, 300)} for _ in range(4)])
    assert float(Average().merge(window)["mlp.up.weight"].std()) == pytest.approx(0.5, rel=0.03)


def test_half_precision_does_not_overflow_on_the_way() -> None:
    assert Average().merge(scalars(60000, 60000, 60000, dtype=torch.float16))["mlp.up.weight"] == 60000


@pytest.mark.parametrize(("norms", "expected"), [("bottom", 5.0), ("top", 12.0), ("mean", 8.0)])
def test_norms_follow_their_own_policy(norms: str, expected: float) -> None:
    assert Average(norms=norms).merge(scalars(5, 7, 12))["norms.a.weight"] == expected  # type: ignore[arg-type]
