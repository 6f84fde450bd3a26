"""The space in which distances of last hidden states are divergences of next-token distributions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from swm.model.view import ModelView
from swm.training.layer_training import LayerTraining
from swm.training.score_space import ScoreSpace


def test_small_distances_are_divergences_in_every_family(any_model: Any, view_of: Any) -> None:
    view: ModelView = view_of(any_model)
    ids = torch.randint(3, 96, (4, 16), generator=torch.Generator().manual_seed(3))
    ends = view.record(ids).states[-1]
    space = ScoreSpace.of(view, ends)
    assert space is not None
    noise = torch.randn(ends.shape, generator=torch.Generator().manual_seed(4)) * ends.abs().mean() * 1e-2
    with torch.no_grad():
        first, second = (view.logits(h).double().log_softmax(-1) for h in (ends, ends + noise))
        divergence = F.kl_div(second, first, log_target=True, reduction="none").sum(-1).mean()
        distance = (space(ends + noise) - space(ends)).double().square().sum(-1).mean()
    # The metric is a mean over tokens, and knows nothing of a soft cap on the scores.
    capped = getattr(view.config, "final_logit_softcapping", None)
    assert float(distance) == pytest.approx(float(divergence), rel=0.5 if capped else 0.3)


def test_a_model_that_does_not_say_its_projection_has_none(llama: ModelView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama.model, "get_output_embeddings", lambda: None)
    assert ScoreSpace.of(llama, torch.zeros(1, 2, llama.config.hidden_size)) is None


def test_what_is_read_is_compared() -> None:
    def read(hidden: Tensor) -> Tensor:
        return hidden[..., :1] * 3

    how = LayerTraining(1, 1, 0.1, True, 0, "x", read=read)
    wanted = torch.ones(2, 1, 2)
    error = how.error(lambda samples, state: torch.zeros(len(samples), 1, 2), wanted, {}, torch.tensor([0, 1]))
    assert float(error) == 9
