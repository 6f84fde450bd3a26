"""The divergence over the likeliest tokens and all others, against numbers worked out by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from swm.training.top_divergence import TopTokens, top_divergence, top_tokens

# Probabilities of four tokens by the teacher, and by the student.
TEACHER = torch.tensor([[0.1, 0.5, 0.3, 0.1]])
STUDENT = torch.tensor([[0.25, 0.25, 0.25, 0.25]])


def divergence(scores: Tensor, wanted: Tensor) -> Tensor:
    return F.kl_div(scores.log_softmax(dim=-1), wanted.log_softmax(dim=-1), reduction="sum", log_target=True)


def test_the_likeliest_tokens_and_the_mass_of_all_others() -> None:
    top = top_tokens(TEACHER.log() + 3.0, 2)
    assert top.ids.tolist() == [[1, 2]]
    torch.testing.assert_close(top.logs.exp(), torch.tensor([[0.5, 0.3]]))
    torch.testing.assert_close(top.rest.exp(), torch.tensor([0.2]))


def test_the_divergence_over_three_outcomes_by_hand() -> None:
    value = top_divergence(STUDENT.log(), top_tokens(TEACHER.log(), 2))
    # 0.25 and 0.25 for the two tokens, a half for all others.
    wanted = 0.5 * math.log(0.5 / 0.25) + 0.3 * math.log(0.3 / 0.25) + 0.2 * math.log(0.2 / 0.5)
    assert value.item() == pytest.approx(wanted, rel=1e-6)


def test_the_gradient_by_hand() -> None:
    scores = STUDENT.log().requires_grad_()
    top_divergence(scores, top_tokens(TEACHER.log(), 2)).backward()
    # p - q where the teacher's mass is known, p (1 - q_r / p_r) elsewhere.
    wanted = torch.tensor([[0.25 * (1 - 0.2 / 0.5), 0.25 - 0.5, 0.25 - 0.3, 0.25 * (1 - 0.2 / 0.5)]])
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, wanted)


@pytest.mark.parametrize("heat", [1.0, 2.5])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_the_gradient_is_that_of_the_formula(k: int, heat: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores, other = (torch.randn(3, 20, generator=generator, dtype=torch.float64) for _ in range(2))
    top = top_tokens(other, k, heat)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: top_divergence(s, top, heat), (scores,))


@pytest.mark.parametrize("heat", [1.0, 2.0])
def test_with_the_whole_vocabulary_it_is_the_usual_divergence(heat: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores, other = (4 * torch.randn(7, 30, generator=generator) for _ in range(2))
    scores.requires_grad_()
    top = top_tokens(other, 10**6, heat)
    assert torch.isneginf(top.rest).all()
    value, wanted = top_divergence(scores, top, heat), heat**2 * divergence(scores / heat, other / heat)
    torch.testing.assert_close(value, wanted)
    [mine], [theirs] = torch.autograd.grad(3 * value, scores), torch.autograd.grad(3 * wanted, scores)
    torch.testing.assert_close(mine, theirs)


def test_more_tokens_never_lower_it() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, other = (4 * torch.randn(5, 30, generator=generator) for _ in range(2))
    values = [top_divergence(scores, top_tokens(other, k)).item() for k in range(1, 31)]
    assert all(less <= more + 1e-4 for less, more in itertools.pairwise(values))
    assert values[-1] == pytest.approx(divergence(scores, other).item(), rel=1e-5)


def test_masses_that_float32_cannot_tell_from_nothing_stay_finite() -> None:
    scores = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    top = TopTokens(torch.tensor([[0]]), torch.tensor([[math.log(0.5)]]), torch.tensor([math.log(0.5)]))
    value = top_divergence(scores, top)
    value.backward()
    assert scores.grad is not None
    assert torch.isfinite(value)
    assert torch.isfinite(scores.grad).all()
