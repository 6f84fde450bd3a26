"""S of every whitening, and what the factors that it gives are best at."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from swm_dipsvd import Moments, Whitener, Whitening
from swm_dipsvd.factors import factorise
from swm_dipsvd.whitenings.absmean import AbsMean
from swm_dipsvd.whitenings.channel_weighted import ChannelWeighted
from swm_dipsvd.whitenings.cholesky import Cholesky
from swm_dipsvd.whitenings.fisher import Fisher
from swm_dipsvd.whitenings.none import NoWhitening

OUT, IN, TOKENS = 20, 16, 200
RANKS = range(1, IN + 1)


@pytest.fixture
def x() -> Tensor:
    """What enters a projection `[tokens, in]`: channels of different size that depend on each other."""
    mixed = torch.randn(TOKENS, IN, dtype=torch.float64) @ torch.randn(IN, IN, dtype=torch.float64)
    return mixed * torch.logspace(0, 1.5, IN, dtype=torch.float64)


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(OUT, IN, dtype=torch.float64)


def moments(x: Tensor) -> Moments:
    return Moments(IN, x.T @ x, x.abs().mean(dim=0), (x**2).mean(dim=0))


def product(whitening: Whitening, weight: Tensor, x: Tensor, rank: int) -> Tensor:
    return factorise(weight, whitening.whitener(moments(x)), IN).product(rank)


def metric(whitening: Whitening, x: Tensor) -> Tensor:
    found = whitening.whitener(moments(x)).matrix
    return found @ found.T


def output_error(weight: Tensor, other: Tensor, x: Tensor) -> float:
    return float((x @ (weight - other).T).norm())


def test_the_metrics_are_those_of_the_papers(x: Tensor) -> None:
    gram = x.T @ x
    weighted = ChannelWeighted(share=0.2, weight=3.0)
    d = weighted.weights(gram)
    assert d.tolist().count(3.0) == int(IN * 0.2) == 3
    assert set(d.topk(3).indices.tolist()) == set(gram.norm(dim=0).topk(3).indices.tolist())
    torch.testing.assert_close(metric(Cholesky(), x), gram)
    torch.testing.assert_close(metric(ChannelWeighted("symmetric", 0.2, 3.0), x), d[:, None] * gram * d)
    found = metric(weighted, x)
    torch.testing.assert_close(found @ found, (gram * d**2) @ gram)
    torch.testing.assert_close(found, found.T)


def test_the_importance_of_a_channel_is_the_papers(x: Tensor) -> None:
    alpha = torch.stack([(column @ (x @ (x.T @ column))).sqrt() for column in x.T])
    torch.testing.assert_close(alpha, torch.linalg.vector_norm(x.T @ x, dim=0))


@pytest.mark.parametrize("mode", ["column", "symmetric"])
def test_without_weights_channel_weighted_is_cholesky(weight: Tensor, x: Tensor, mode) -> None:
    for plain in (ChannelWeighted(mode, weight=1.0), ChannelWeighted(mode, share=0.0)):
        for rank in RANKS:
            torch.testing.assert_close(product(plain, weight, x, rank), product(Cholesky(), weight, x, rank))


@pytest.mark.parametrize(
    "whitening",
    [
        NoWhitening(),
        Cholesky(),
        ChannelWeighted(share=0.2),
        ChannelWeighted("symmetric", share=0.2),
        AbsMean(),
        Fisher(),
    ],
    ids=lambda whitening: whitening.name,
)
def test_the_factors_are_those_of_the_released_form_with_an_inverse(weight: Tensor, x: Tensor, whitening) -> None:
    found = whitening.whitener(moments(x)).matrix
    s = torch.diag(found) if found.dim() == 1 else found
    u, sigma, vt = torch.linalg.svd(weight @ s, full_matrices=False)
    for rank in RANKS:
        released = (u[:, :rank] * sigma[:rank].sqrt()) @ (sigma[:rank].sqrt()[:, None] * vt[:rank]) @ torch.inverse(s)
        torch.testing.assert_close(product(whitening, weight, x, rank), released, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(product(whitening, weight, x, IN), weight)


def test_plain_svd_is_best_in_the_weight_and_cholesky_in_the_output(weight: Tensor, x: Tensor) -> None:
    others = [ChannelWeighted(share=0.2), ChannelWeighted("symmetric", share=0.2), AbsMean(), Fisher()]
    for rank in range(1, IN):
        plain, cholesky = product(NoWhitening(), weight, x, rank), product(Cholesky(), weight, x, rank)
        assert (weight - plain).norm() < (weight - cholesky).norm()
        assert output_error(weight, cholesky, x) < output_error(weight, plain, x)
        for other in others:
            found = product(other, weight, x, rank)
            assert (weight - plain).norm() < (weight - found).norm()
            assert output_error(weight, cholesky, x) < output_error(weight, found, x)


def test_errors_are_the_singular_values_that_were_left_out(weight: Tensor, x: Tensor) -> None:
    sigma = torch.linalg.svdvals(weight @ torch.linalg.cholesky(x.T @ x))
    for rank in RANKS:
        error = output_error(weight, product(Cholesky(), weight, x, rank), x)
        assert error == pytest.approx(float(sigma[rank:].norm()), abs=1e-6)


def test_diagonal_whitenings_by_hand() -> None:
    x = torch.tensor([[1.0, -4.0, 0.0], [3.0, 4.0, 0.0]], dtype=torch.float64)
    given = Moments(3, None, x.abs().mean(dim=0), torch.tensor([4.0, 0.0, 16.0], dtype=torch.float64))
    torch.testing.assert_close(AbsMean(0.5).whitener(given).matrix, torch.tensor([2**0.5, 2.0, 0.0]).double() + 1e-6)
    torch.testing.assert_close(AbsMean(0.0).whitener(given).matrix, torch.ones(3).double() + 1e-6)
    fisher = Fisher().whitener(given)
    torch.testing.assert_close(fisher.matrix, torch.tensor([1.0, 0.0, 2.0]).double() + 1e-6)
    assert fisher.repairs == ("scale_shifted",)


@pytest.mark.parametrize("size", [1.0, 1e6])
def test_singular_statistics_are_repaired_and_named(weight: Tensor, size: float) -> None:
    x = size * torch.randn(6, IN, dtype=torch.float64)
    x[:, 3] = 0
    found = Cholesky().whitener(moments(x))
    assert found.repairs == ("gram_shifted",)
    assert torch.isfinite(found.matrix).all()
    # Six tokens need no more than six ranks.
    assert output_error(weight, factorise(weight, found, IN).product(6), x) < 1e-5 * float((x @ weight.T).norm())
    dead = ChannelWeighted().whitener(Moments(IN, torch.zeros(IN, IN, dtype=torch.float64)))
    assert dead.repairs == ("scale_shifted",)
    torch.testing.assert_close(dead.matrix, 1e-6 * torch.eye(IN, dtype=torch.float64))


def test_a_decomposition_that_fails_is_repaired_and_named(weight: Tensor, x: Tensor, monkeypatch) -> None:
    svd, failures = torch.linalg.svd, [1]

    def failing(*args, **kwargs):
        if failures:
            failures.pop()
            raise torch.linalg.LinAlgError("did not converge")
        return svd(*args, **kwargs)

    monkeypatch.setattr(torch.linalg, "svd", failing)
    assert ChannelWeighted().whitener(moments(x)).repairs == ("gram_shifted",)
    failures.append(1)
    found = factorise(weight, Whitener(torch.ones(IN, dtype=torch.float64)), IN)
    assert found.repairs == ("svd_by_eigenvectors",)
    torch.testing.assert_close(found.product(5), product(NoWhitening(), weight, x, 5))


def test_factors_are_balanced_and_exact_where_ranks_are_missing(weight: Tensor) -> None:
    weight[:, 4:] = 0
    found = factorise(weight, Whitener(torch.ones(IN, dtype=torch.float64)), IN)
    torch.testing.assert_close(found.product(4), weight)
    assert torch.isfinite(found.reduce).all()
    torch.testing.assert_close(found.reduce.norm(dim=1)[:4], found.expand.norm(dim=0)[:4])
    kept = found.truncated(3)
    assert {name: tuple(value.shape) for name, value in kept.items()} == {"reduce": (3, IN), "expand": (OUT, 3)}
