"""Some tokens stand for a vocabulary: the sums over it are right on average, and those of the text exact."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from swm.errors import FamilyError
from swm.model.view import ModelView
from swm.training import token_sample
from swm.training.end_divergence import EndDivergence
from swm.training.token_sample import TokenSample

IDS = torch.tensor([[5, 9, 5], [11, 9, 7]])


def states(view: ModelView) -> tuple[torch.Tensor, torch.Tensor]:
    """Given and wanted outputs of the last layer."""
    ids = torch.randint(3, 96, (2, 16), generator=torch.Generator().manual_seed(3))
    wanted = view.record(ids).states[-1]
    noise = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(4)) * wanted.abs().mean() * 0.3
    return (wanted + noise).requires_grad_(), wanted


def test_every_other_token_is_drawn_and_the_known_ones_are_always_there() -> None:
    known = torch.unique(IDS)
    sample = TokenSample(known, 30, 6, 0)
    drawn = [sample.draw() for _ in range(40)]
    for tokens, raised in drawn:
        assert tokens[:4].tolist() == [5, 7, 9, 11]
        assert len(set(tokens.tolist())) == 10
        assert raised[:4].tolist() == [0] * 4
        assert raised[4:].tolist() == pytest.approx([math.log(26 / 6)] * 6)
    assert set(torch.cat([tokens for tokens, _ in drawn]).tolist()) == set(range(30))


def test_the_sum_that_a_softmax_divides_by_is_right_on_average() -> None:
    scores = torch.randn(400, generator=torch.Generator().manual_seed(1))
    sample = TokenSample(torch.arange(20), 400, 60, 0)
    sums = [(scores[tokens] + raised).exp().sum().item() for tokens, raised in (sample.draw() for _ in range(3000))]
    assert sum(sums) / len(sums) == pytest.approx(scores.exp().sum().item(), rel=0.01)


def test_all_tokens_give_the_divergence_itself_in_every_family(any_model: Any, view_of: Any) -> None:
    view: ModelView = view_of(any_model)
    given, wanted = states(view)
    assert view.head.has_rows(wanted[:1, :2], view.vocabulary)
    value = EndDivergence(view, TokenSample(torch.unique(IDS), view.vocabulary, view.vocabulary, 0))(given, wanted)
    expected = EndDivergence(view)(given, wanted)
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)
    ours, theirs = (torch.autograd.grad(each, given)[0] for each in (value, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-7)


def test_some_tokens_give_about_the_divergence_and_its_gradient(llama: ModelView) -> None:
    given, wanted = states(llama)
    sample = TokenSample(torch.arange(0, 96, 2), llama.vocabulary, 24, 0)
    values = [EndDivergence(llama, sample)(given, wanted) for _ in range(200)]
    whole = EndDivergence(llama)(given, wanted)
    assert torch.stack(values).mean().item() == pytest.approx(whole.item(), rel=0.15)
    gradient = torch.stack([torch.autograd.grad(value, given)[0] for value in values]).mean(0)
    [wanted_gradient] = torch.autograd.grad(whole, given)
    assert torch.cosine_similarity(gradient.flatten(), wanted_gradient.flatten(), dim=0) > 0.95


def test_without_a_gradient_the_whole_vocabulary_is_looked_at(llama: ModelView) -> None:
    given, wanted = states(llama)
    sample = TokenSample(torch.unique(IDS), llama.vocabulary, 3, 0)
    with torch.no_grad():
        value = EndDivergence(llama, sample)(given.detach(), wanted)
        assert value.item() == EndDivergence(llama)(given.detach(), wanted).item()


def test_equal_states_are_no_distance_apart_whatever_is_drawn(llama: ModelView) -> None:
    _, wanted = states(llama)
    sample = TokenSample(torch.unique(IDS), llama.vocabulary, 3, 0)
    value = EndDivergence(llama, sample)(wanted.clone().requires_grad_(), wanted)
    assert value.item() == pytest.approx(0, abs=1e-6)


def test_a_sample_is_made_where_it_is_less_than_half(llama: ModelView, monkeypatch: pytest.MonkeyPatch) -> None:
    _, wanted = states(llama)
    assert TokenSample.of(llama, IDS, wanted, 0) is None
    monkeypatch.setattr(token_sample, "FEWEST_OTHERS", 20)
    sample = TokenSample.of(llama, IDS, wanted, 0)
    assert sample is not None
    assert len(sample.draw().tokens) == 24
    llama.tokens = list(range(96))
    assert TokenSample.of(llama, IDS, wanted, 0) is None


def test_a_projection_with_other_rows_than_the_embedding_is_left_whole(
    llama: ModelView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_sample, "FEWEST_OTHERS", 20)
    _, wanted = states(llama)
    model: Any = llama.model
    model.lm_head.weight = nn.Parameter(model.lm_head.weight[:90].detach())
    assert llama.logits(wanted).shape[-1] == 90
    assert TokenSample.of(llama, IDS, wanted, 0) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_models_of_half_precision_have_a_sample_and_a_gradient(
    llama: ModelView, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_sample, "FEWEST_OTHERS", 20)
    llama.model.to(dtype)
    given, wanted = states(llama)
    given = given.detach().to(dtype).requires_grad_()
    # What leaves layers of float16 under bfloat16 autocast is float32.
    sample = TokenSample.of(llama, IDS, wanted.float(), 0)
    assert sample is not None
    value = EndDivergence(llama, sample)(given, wanted)
    first, again = (torch.autograd.grad(value, given, retain_graph=True)[0] for _ in range(2))
    assert torch.isfinite(first).all()
    assert first.abs().sum() > 0
    assert torch.equal(first, again)


def test_a_projection_of_another_kind_is_left_whole(llama: ModelView, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(nn.Linear):
        pass

    monkeypatch.setattr(token_sample, "FEWEST_OTHERS", 20)
    _, wanted = states(llama)
    model: Any = llama.model
    model.lm_head.__class__ = Other
    assert TokenSample.of(llama, IDS, wanted, 0) is None
    with pytest.raises(FamilyError, match="Other"), llama.head.only(torch.unique(IDS)):
        pass


def test_the_models_own_projection_is_back_afterwards(llama: ModelView) -> None:
    _, wanted = states(llama)
    before = llama.logits(wanted)
    with llama.head.only(torch.unique(IDS)):
        # Some processors add up in another order where there are fewer rows.
        torch.testing.assert_close(llama.logits(wanted), before[..., torch.unique(IDS)])
    assert torch.equal(llama.logits(wanted), before)
