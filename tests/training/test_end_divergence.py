"""The divergence of what the model's end makes of two states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from swm.model import token_scores
from swm.model.view import ModelView
from swm.training.end_divergence import EndDivergence
from swm.training.layer_training import LayerTraining


@pytest.mark.parametrize("pieces", [1, 8], ids=["one piece", "pieces"])
def test_it_is_the_divergence_of_the_scores_in_every_family(
    any_model: Any, view_of: Any, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    view: ModelView = view_of(any_model)
    ids = torch.randint(3, 96, (2, 16), generator=torch.Generator().manual_seed(3))
    wanted = view.record(ids).states[-1]
    noise = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(4)) * wanted.abs().mean() * 0.1
    given = (wanted + noise).requires_grad_()
    monkeypatch.setattr(token_scores, "SCORE_BYTES", 4 * view.vocabulary * (32 // pieces))
    value = EndDivergence(view)(given, wanted)
    [gradient] = torch.autograd.grad(value, given)
    with torch.no_grad():
        target = view.logits(wanted).float().log_softmax(-1)
    scores = view.logits_with_gradient(given).float().log_softmax(-1)
    expected = F.kl_div(scores, target, log_target=True, reduction="none").sum(-1).mean()
    [wanted_gradient] = torch.autograd.grad(expected, given)
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-3, atol=1e-7)


def test_what_compares_gives_the_error() -> None:
    def compare(given: Tensor, wanted: Tensor) -> Tensor:
        return (given - 3 * wanted).square().mean()

    how = LayerTraining(1, 1, 0.1, True, 0, "x", compare=compare)
    wanted = torch.ones(2, 1, 2)
    error = how.error(lambda samples, state: torch.zeros(len(samples), 1, 2), wanted, {}, torch.tensor([0, 1]))
    assert float(error) == 9
