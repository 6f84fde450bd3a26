"""The objective: similarities, losses and early ends of trials."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from swm.depth import objective
from swm.depth.objective import EarlyStop, Objective, Reference, _by_token
from swm.interfaces.similarity import TokenMetric
from swm.model.view import ModelView
from swm.similarity.cka import CKA
from swm.similarity.cosine import Cosine
from swm.similarity.kl import KL


@pytest.fixture
def ends(llama: ModelView, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The model's end, and what enters its last layer in place of another one's."""
    states = llama.record(ids).states
    return states[-1], states[-2]


def test_hidden_states_are_compared_after_the_final_norm(llama: ModelView, ends: tuple[Tensor, Tensor]) -> None:
    expected = Cosine().compare(llama.tail(ends[0]), llama.tail(ends[1]))
    assert Reference(Objective(llama, Cosine()), ends[0]).similarity(ends[1]) == expected


@pytest.mark.parametrize("kept", [0, objective.REFERENCE_LOGITS_BYTES], ids=["made anew", "kept"])
def test_next_token_scores_are_compared_piece_by_piece(
    llama: ModelView, ends: tuple[Tensor, Tensor], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = KL().compare(llama.logits(ends[0]), llama.logits(ends[1]))
    monkeypatch.setattr("swm.model.token_scores.SCORE_BYTES", 1)
    reference = Reference(Objective(llama, KL()), ends[0], logits_bytes=kept)
    for _ in range(2):
        assert reference.similarity(ends[1]) == pytest.approx(expected, abs=1e-6)
    assert ("_kept_logits" in vars(reference)) == bool(kept)


def test_the_loss_is_that_of_the_model(llama: ModelView, ids: Tensor, ends: tuple[Tensor, Tensor]) -> None:
    expected = float(llama.model(input_ids=ids, labels=ids).loss.detach())
    assert Objective(llama, Cosine()).next_token_loss(ends[0], ids) == pytest.approx(expected, abs=1e-5)


def test_a_trial_stops_early_where_samples_are_compared_one_by_one(llama: ModelView) -> None:
    assert Objective(llama, Cosine()).stop(0.5) == EarlyStop(Cosine(), 0.5)
    assert Objective(llama, Cosine()).stop(None) is None
    assert Objective(llama, CKA()).stop(0.5) is None
    assert Objective(llama, KL()).stop(0.5) is None


def test_the_rest_is_not_run_once_it_cannot_lift_the_similarity() -> None:
    # Cosines 0, 1, 1 and 1.
    reference = torch.tensor([1.0, 0.0]).expand(4, 1, 2)
    candidate = reference.clone()
    candidate[0, 0] = torch.tensor([0.0, 1.0])
    run: list[int] = []

    def batches():
        for i in range(4):
            run.append(i)
            yield slice(i, i + 1), candidate[i : i + 1]

    assert EarlyStop(Cosine(), 0.8).similarity(reference, batches()) == (0.75, 1)
    assert run == [0]
    assert EarlyStop(Cosine(), 0.7).similarity(reference, batches()) == (0.75, 4)


def test_tokens_are_compared_a_part_of_a_piece_at_a_time() -> None:
    class Counted(TokenMetric):
        name = "counted"
        sizes: ClassVar[list[int]] = []

        def per_token(self, reference: Tensor, candidate: Tensor) -> Tensor:
            self.sizes.append(reference.shape[1])
            return (reference - candidate).sum(dim=-1)

        def reduce(self, values: Tensor) -> float:
            return float(values.mean())

    one, other = torch.arange(34.0).view(1, 17, 2), torch.ones(1, 17, 2)
    assert _by_token(Counted(), one, other).tolist() == (one - other).sum(dim=-1)[0].tolist()
    assert Counted.sizes == [2] * 8 + [1]
