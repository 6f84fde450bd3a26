"""Keeping some tokens: the scores of those that stay are what they were, in every family."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from swm.errors import FamilyError, PlanError
from swm.model.shape import shape_now
from swm.model.view import ModelView
from swm.model.vocabulary_surgery import check_vocabulary, keep_tokens

KEPT = [0, 1, 2, 3, 5, 7, 8, 20, 21, 22, 50, 51, 80, 95]

Build = Callable[[PreTrainedModel], ModelView]


def rows_of(ids: Tensor) -> Tensor:
    """The ids among `KEPT` by their new numbers."""
    return torch.tensor([KEPT.index(i) for i in ids.flatten().tolist()]).view_as(ids)


def text() -> Tensor:
    """Ids `[4, 12]` of kept tokens."""
    return torch.tensor(KEPT)[torch.randint(3, len(KEPT), (4, 12), generator=torch.Generator().manual_seed(1))]


@torch.no_grad()
def test_the_scores_of_kept_tokens_are_those_of_the_original(any_model: Any, view_of: Build) -> None:
    view = view_of(any_model)
    before = any_model(input_ids=text()).logits[..., KEPT]
    keep_tokens(view, KEPT)
    after = any_model(input_ids=rows_of(text())).logits
    assert float((after - before).abs().max()) <= 1e-6
    assert view.vocabulary == len(KEPT) == view.config.vocab_size
    assert view.tokens == KEPT


@pytest.mark.parametrize("tied", [True, False])
def test_tied_weights_stay_tied_and_others_apart(tied: bool, tiny: Any, view_of: Build) -> None:
    view = view_of(tiny("llama", tie_word_embeddings=tied))
    before = view.parameters()
    keep_tokens(view, KEPT)
    model: Any = view.model
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert before - view.parameters() == (96 - len(KEPT)) * 32 * (1 if tied else 2)
    assert model.lm_head.out_features == model.model.embed_tokens.num_embeddings == len(KEPT)


@torch.no_grad()
def test_a_bias_of_the_head_is_cut(tiny: Any, view_of: Build) -> None:
    model = tiny("llama", tie_word_embeddings=False)
    model.lm_head.bias = torch.nn.Parameter(torch.arange(96.0))
    before = model(input_ids=text()).logits[..., KEPT]
    keep_tokens(view_of(model), KEPT)
    assert float((model(input_ids=rows_of(text())).logits - before).abs().max()) <= 1e-5
    assert model.lm_head.bias.tolist() == [float(i) for i in KEPT]


def test_special_ids_follow_in_the_config_and_in_the_generation_settings(tiny: Any, view_of: Build) -> None:
    model = tiny("llama")
    model.config.image_token_id = 50
    model.config.eos_token_id = [2, 95]
    model.generation_config.eos_token_id = [2, 95]
    model.generation_config.pad_token_id = 5
    model.generation_config.suppress_tokens = [7, 9]
    model.generation_config.bad_words_ids = [[20, 21], [20, 30]]
    keep_tokens(view_of(model), KEPT)
    config, generation = model.config, model.generation_config
    assert (config.bos_token_id, config.pad_token_id, config.eos_token_id) == (1, 0, [2, 13])
    assert config.image_token_id == KEPT.index(50)
    assert (generation.eos_token_id, generation.pad_token_id) == ([2, 13], 4)
    assert generation.suppress_tokens == [5]
    assert generation.bad_words_ids == [[7, 8]]
    assert model.model.padding_idx == model.model.embed_tokens.padding_idx == 0


def test_a_second_cut_names_tokens_by_their_first_ids(llama: ModelView) -> None:
    whole = copy.deepcopy(llama)
    keep_tokens(llama, KEPT)
    keep_tokens(llama, KEPT[:6])
    keep_tokens(whole, KEPT[:6])
    assert llama.tokens == KEPT[:6]
    assert all(torch.equal(a, b) for a, b in zip(llama.model.parameters(), whole.model.parameters(), strict=True))


@pytest.mark.parametrize("tokens", [[0, 96], [], [3, 1], [1, 1]])
def test_ids_that_are_not_there_are_refused(tokens: list[int], llama: ModelView) -> None:
    with pytest.raises(PlanError, match=r"token 96|ascend"):
        keep_tokens(llama, tokens)
    assert llama.tokens is None


def test_a_model_with_an_embedding_in_each_layer_is_refused(llama: ModelView) -> None:
    llama.config.vocab_size_per_layer_input = 96
    with pytest.raises(FamilyError, match="in each layer"):
        check_vocabulary(llama.config)


def test_a_model_that_does_not_say_where_its_embedding_is_has_a_shape_and_cannot_be_cut(
    llama: ModelView, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Any:
        raise NotImplementedError

    monkeypatch.setattr(llama.model, "get_input_embeddings", missing)
    assert shape_now(llama).vocabulary == 0
    assert shape_now(llama).layers == 6
    with pytest.raises(FamilyError, match="does not say which module its embedding is"):
        keep_tokens(llama, KEPT)
