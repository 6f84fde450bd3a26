"""Centred kernel alignment, against slow definitions written out here."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from swm.interfaces.similarity import SimilarityMetric
from swm.similarity.cka import CKA

Hsic = Callable[[Tensor, Tensor], float]
Kernel = Callable[[Tensor], Tensor]


def linear(points: Tensor) -> Tensor:
    """Kornblith et al., section 3: dot products."""
    n = len(points)
    return torch.tensor([[float(points[i] @ points[j]) for j in range(n)] for i in range(n)], dtype=torch.float64)


def rbf(points: Tensor, bandwidth: float = 1.0) -> Tensor:
    """Kornblith et al., section 3: the width is a fraction of the median distance."""
    n = len(points)
    squared = [[float(((points[i] - points[j]) ** 2).sum()) for j in range(n)] for i in range(n)]
    distances = sorted(squared[i][j] for i, j in itertools.permutations(range(n), 2))
    width = bandwidth**2 * distances[(len(distances) - 1) // 2]
    return torch.tensor(squared, dtype=torch.float64).div(-2 * width).exp()


def biased(k: Tensor, m: Tensor) -> float:
    """The trace of K H L H, over (n - 1) squared."""
    n = len(k)
    h = torch.eye(n, dtype=torch.float64) - 1 / n
    return float(torch.trace(k @ h @ m @ h)) / (n - 1) ** 2


def unbiased(k: Tensor, m: Tensor) -> float:
    """Song et al., equation 5, its sums written out; the kernels' diagonals are set to zero there."""
    n = len(k)
    points = range(n)
    kt, mt = [[[float(x[i, j]) * (i != j) for j in points] for i in points] for x in (k, m)]
    trace = sum(kt[i][j] * mt[j][i] for i in points for j in points)
    product = sum(map(sum, kt)) * sum(map(sum, mt)) / ((n - 1) * (n - 2))
    mixed = sum(kt[i][j] * mt[j][q] for i in points for j in points for q in points) * 2 / (n - 2)
    return (trace + product - mixed) / (n * (n - 3))


def centred_then_corrected(k: Tensor, m: Tensor) -> float:
    """The released analysis: corrections of the unbiased estimator on matrices that are centred already."""
    n = len(k)
    h, one = torch.eye(n, dtype=torch.float64) - 1 / n, torch.ones(n, dtype=torch.float64)
    k, m = h @ k @ h, h @ m @ h
    product = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return float((torch.trace(k @ m) + product - 2 * (one @ k @ m @ one) / (n - 2)) / (n * (n - 3)))


def alignment(hsic: Hsic, kernel: Kernel, x: Tensor, y: Tensor) -> float:
    k, m = kernel(x.double()), kernel(y.double())
    return hsic(k, m) / (hsic(k, k) * hsic(m, m)) ** 0.5


def related(samples: int = 4, seq: int = 3, width: int = 5) -> tuple[Tensor, Tensor]:
    """Two activations that share something, with a mean that centring has to take away."""
    x = torch.randn(samples, seq, width)
    return x + 2, torch.tanh(x @ torch.randn(width, width)) + 0.5 * torch.randn(samples, seq, width)


@pytest.mark.parametrize(("estimator", "hsic"), [("biased", biased), ("unbiased", unbiased)])
@pytest.mark.parametrize(("kernel", "gram"), [("linear", linear), ("rbf", rbf)])
def test_it_is_the_textbook_definition(
    kernel: Literal["linear", "rbf"], gram: Kernel, estimator: Literal["biased", "unbiased"], hsic: Hsic
) -> None:
    x, y = related()
    value = CKA(kernel, estimator).compare(x, y)
    assert value == pytest.approx(alignment(hsic, gram, x.flatten(0, 1), y.flatten(0, 1)), abs=1e-9)
    x, y = related(samples=7)
    value = CKA(kernel, estimator, tokens="flattened").compare(x, y)
    assert value == pytest.approx(alignment(hsic, gram, x.flatten(1), y.flatten(1)), abs=1e-9)
    value = CKA(kernel, estimator, tokens="mean").compare(x, y)
    assert value == pytest.approx(alignment(hsic, gram, x.double().mean(1), y.double().mean(1)), abs=1e-6)


def test_a_value_computed_by_hand() -> None:
    # With one feature, linear CKA is the squared correlation. Centred, the features of the four points are
    # (-1, 1, -1, 1), (-1, -1, 1, 1) and (-3, -1, 1, 3): dot products 0, 8 and 4, squared norms 4, 4 and 20.
    first, second, third = (torch.tensor(v).reshape(4, 1, 1) for v in ([0.0, 2, 0, 2], [5.0, 5, 7, 7], [1.0, 3, 5, 7]))
    metric = CKA(estimator="biased")
    assert metric.compare(first, second) == pytest.approx(0, abs=1e-12)
    assert metric.compare(second, third) == pytest.approx(64 / (4 * 20))
    assert metric.compare(first, third) == pytest.approx(16 / (4 * 20))


@pytest.mark.parametrize("bandwidth", [0.3, 1.0, 4.0])
def test_the_bandwidth_scales_the_width_of_the_rbf_kernel(bandwidth: float) -> None:
    x, y = related()
    expected = alignment(biased, lambda p: rbf(p, bandwidth), x.flatten(0, 1), y.flatten(0, 1))
    assert CKA("rbf", "biased", bandwidth=bandwidth).compare(x, y) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_rotation_shift_and_isotropic_scale_change_nothing(
    kernel: Literal["linear", "rbf"], estimator: Literal["biased", "unbiased"]
) -> None:
    x, y = related(width=8)
    rotation, _ = torch.linalg.qr(torch.randn(8, 8))
    metric = CKA(kernel, estimator)
    assert metric.compare(x, 0.01 * x @ rotation + 3) == pytest.approx(1, abs=1e-5)
    assert metric.compare(x, 100 * y @ rotation) == pytest.approx(metric.compare(x, y), abs=1e-5)
    assert metric.compare(x, x * torch.tensor([1.0, 1, 1, 1, 9, 9, 9, 9])) < 0.99


def test_few_points_with_many_features_inflate_the_biased_estimator_only() -> None:
    pairs = [(torch.randn(16, 1, 4096), torch.randn(16, 1, 4096)) for _ in range(5)]
    for x, y in pairs:
        assert CKA(estimator="biased").compare(x, y) > 0.95
        assert abs(CKA(estimator="unbiased").compare(x, y)) < 0.3
    mean = sum(CKA(estimator="unbiased").compare(x, y) for x, y in pairs) / len(pairs)
    assert abs(mean) < 0.15


def test_the_two_estimators_agree_with_many_points() -> None:
    x, y = related(samples=200, seq=2, width=3)
    assert CKA(estimator="unbiased").compare(x, y) == pytest.approx(CKA(estimator="biased").compare(x, y), abs=0.01)


def test_the_formula_of_the_released_analysis_is_the_biased_estimator() -> None:
    for _ in range(5):
        x, y = torch.randn(16, 3, 40), torch.randn(16, 3, 40)
        released = alignment(centred_then_corrected, lambda p: p @ p.T, x.flatten(1), y.flatten(1))
        assert CKA(estimator="biased", tokens="flattened").compare(x, y) == pytest.approx(released, abs=1e-9)
        assert CKA(estimator="unbiased", tokens="flattened").compare(x, y) < released - 0.3


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_small_activations_are_not_truncated(estimator: Literal["biased", "unbiased"]) -> None:
    x, y = related()
    expected = CKA(estimator=estimator).compare(x, y)
    assert 0 < expected < 1
    assert CKA(estimator=estimator).compare(1e-6 * x, 1e-12 * y) == pytest.approx(expected, abs=1e-5)


def test_padding_makes_no_points_and_no_features() -> None:
    x, y = related(samples=6, seq=4)
    mask = torch.tensor([[True] * 4, [True] * 3 + [False]] * 3)
    points = mask.flatten()
    expected = alignment(biased, linear, x.flatten(0, 1)[points], y.flatten(0, 1)[points])
    assert CKA(estimator="biased").compare(x, y, mask) == pytest.approx(expected, abs=1e-9)
    means = [(z.double() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True) for z in (x, y)]
    expected = alignment(biased, linear, *means)
    assert CKA(estimator="biased", tokens="mean").compare(x, y, mask) == pytest.approx(expected, abs=1e-6)


def test_all_pairs_together_cost_far_less_than_pair_by_pair() -> None:
    layers = list(torch.randn(8, 4, 3, 64))
    with FlopCounterMode(display=False) as together:
        table = CKA().pairwise(layers)
    with FlopCounterMode(display=False) as one_by_one:
        expected = SimilarityMetric.pairwise(CKA(), layers)
    torch.testing.assert_close(table, expected, atol=1e-9, rtol=0)
    assert together.get_total_flops() * 5 < one_by_one.get_total_flops()


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@pytest.mark.parametrize("rows", [1, 5, 12])
def test_how_many_rows_are_made_at_a_time_changes_nothing(
    kernel: Literal["linear", "rbf"],
    estimator: Literal["biased", "unbiased"],
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layers, metric = list(torch.randn(3, 4, 3, 8)), CKA(kernel, estimator)
    whole = metric.pairwise(layers)
    monkeypatch.setattr("swm.similarity.cka.BLOCK_BYTES", rows * 12 * 3 * 8)
    torch.testing.assert_close(metric.pairwise(layers), whole, atol=1e-12, rtol=0)


def test_the_points_that_a_calibration_text_gives_are_checked() -> None:
    CKA().check(samples=1, seq_len=4)
    CKA(tokens="flattened").check(samples=4, seq_len=1)
    with pytest.raises(ValueError, match="tokens: mean needs 4 points, the calibration text gives 3"):
        CKA(tokens="mean").check(samples=3, seq_len=128)
    with pytest.raises(ValueError, match="gives 3"):
        CKA().check(samples=1, seq_len=3)
