"""Ridge regression from sums over tokens."""

from __future__ import annotations

import pytest
import torch

from swm.fitting.ridge import GRID, Ridge, Sums, best_ridge, solve


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(50, 7, generator=generator), torch.randn(50, 3, generator=generator)


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 1.0, 50.0])
def test_it_solves_the_stated_problem(data, ridge: float) -> None:
    x, y = (t.double() for t in data)
    scale = ridge * x.square().sum(dim=0).mean()
    stacked = torch.cat([x, scale.sqrt() * torch.eye(7).double()])
    expected = torch.linalg.lstsq(stacked, torch.cat([y, torch.zeros(7, 3).double()])).solution
    torch.testing.assert_close(Ridge(Sums.of(*data)).solution(ridge), expected)
    torch.testing.assert_close(solve(Sums.of(*data), ridge), expected)


def test_sums_add_up_and_tell_the_error(data) -> None:
    x, y = data
    whole, parts = Sums.of(x, y), Sums.of(x[:20], y[:20], chunk=7) + Sums.of(x[20:], y[20:])
    torch.testing.assert_close(parts.xx, whole.xx)
    torch.testing.assert_close(parts.xy, whole.xy)
    solution = Ridge(whole).solution(0.1)
    expected = float((y.double() - x.double() @ solution).square().sum())
    assert parts.error(solution) == pytest.approx(expected)


def test_directions_that_x_does_not_have_stay_zero(data) -> None:
    x, y = data
    x = torch.cat([x, torch.zeros(50, 1), x[:, :1]], dim=1)
    solution = Ridge(Sums.of(x, y)).solution(0.0)
    assert torch.equal(solution[7], torch.zeros(3).double())
    torch.testing.assert_close(solution[0], solution[8])
    assert not Ridge(Sums.of(torch.zeros(5, 4), torch.zeros(5, 2))).solution(0.0).any()


def test_the_best_ridge_grows_with_the_noise() -> None:
    generator = torch.Generator().manual_seed(3)
    truth = torch.randn(30, 2, generator=generator)

    def best(noise: float) -> float:
        x, more = torch.randn(40, 30, generator=generator), torch.randn(200, 30, generator=generator)
        y = x @ truth + noise * torch.randn(40, 2, generator=generator)
        others = Sums.of(more, more @ truth)
        chosen, error = best_ridge(Sums.of(x, y), others)
        by_eigenvectors = {ridge: others.error(Ridge(Sums.of(x, y)).solution(ridge)) for ridge in GRID}
        assert chosen == min(GRID, key=lambda ridge: by_eigenvectors[ridge])
        assert error == pytest.approx(by_eigenvectors[chosen], rel=1e-3, abs=1e-6)
        return chosen

    assert best(1e-6) == GRID[0]
    assert GRID[2] < best(3.0) < best(100.0)
