"""A fit to few tokens is that of all fits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from swm.fitting import refitting
from swm.fitting.few_tokens import FewTokens
from swm.fitting.refitting import Change, fit_change
from swm.fitting.ridge import GRID, Ridge, Sums


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 40, generator=generator), torch.randn(6, 3, generator=generator)


@pytest.mark.parametrize("ridge", [1e-6, 1.0, 50.0])
def test_it_is_the_ridge_regression_over_the_inputs(data: tuple[Tensor, Tensor], ridge: float) -> None:
    few = FewTokens(*(values.double() for values in data))
    torch.testing.assert_close(few.solve(ridge), Ridge(Sums.of(*data)).solution(ridge))


def test_the_best_ridge_is_that_of_the_tokens_that_were_left_out(data: tuple[Tensor, Tensor]) -> None:
    x, y = data
    held = torch.tensor([False, True, False, False, True, False])
    solutions, others = Ridge(Sums.of(x[~held], y[~held])), Sums.of(x[held], y[held])
    errors = {ridge: others.error(solutions.solution(ridge)) for ridge in GRID}
    best, error = FewTokens(x.double(), y.double()).best_ridge(held)
    assert best == min(GRID, key=lambda ridge: errors[ridge])
    assert error == pytest.approx(errors[best])


def test_inputs_without_a_number_but_zero_give_nothing() -> None:
    few = FewTokens(torch.zeros(4, 9).double(), torch.ones(4, 2).double())
    assert not few.solve(0.1).any()
    assert few.best_ridge(torch.tensor([True, False, False, False]))[1] == 2.0


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("ridge", [None, 0.1])
def test_a_change_is_the_same_by_either_way(bias: bool, ridge: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    inputs, scale = torch.randn(5, 4, 48, generator=generator), torch.rand(5, 4, 1, generator=generator)
    truth = torch.randn(48, 3, generator=generator) / 7
    missing = inputs @ truth + 0.1 * torch.randn(5, 4, 3, generator=generator) + 1

    def change(few: float, **settings: Any) -> Change:
        monkeypatch.setattr(refitting, "FEW", few)
        return fit_change(inputs, missing, scale, bias=bias, ridge=ridge, fold=3)

    by_inputs, by_tokens = change(1000), change(1)
    assert by_tokens.ridge == by_inputs.ridge
    assert (by_tokens.error is None) == (by_inputs.error is None)
    if by_tokens.error is not None:
        assert by_tokens.error == pytest.approx(by_inputs.error)
    torch.testing.assert_close(by_tokens.weight, by_inputs.weight)
    if bias:
        torch.testing.assert_close(by_tokens.bias, by_inputs.bias)
