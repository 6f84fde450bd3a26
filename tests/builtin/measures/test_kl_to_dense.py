"""How far from the original model: numbers worked out another way, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from swm.builtin.measures.kl_to_dense import KlToDense, compared
from swm.builtin.texts.inline import InlineText
from swm.errors import ModelError, RecipeError, TextError
from swm.interfaces.measure import MeasureContext
from swm.model.view import ModelView
from swm.model.vocabulary_surgery import keep_tokens
from swm.plugins.loading import Plugins
from swm.testing import checks_for, tiny_ids, tiny_model, tiny_tokenizer

TEXT = InlineText(texts=("the quick brown fox jumps over the lazy dog " * 4,))
TestEveryMeasure = checks_for(KlToDense, {}, {"bos": "first"}, families=("llama", "gpt2"))


def noisy(model: Any) -> Any:
    other = copy.deepcopy(model)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return other


@torch.no_grad()
def test_each_token_has_the_divergence_that_torch_gives() -> None:
    original = tiny_model("llama")
    model, ids = noisy(original), tiny_ids(3)
    p, q = (each(ids).logits[:, :-1].double().log_softmax(-1) for each in (original, model))
    divergence, agreement = compared(model, original, ids)
    torch.testing.assert_close(
        divergence, F.kl_div(q, p, log_target=True, reduction="none").sum(-1), rtol=1e-5, atol=1e-6
    )
    assert divergence.min() > 0
    assert torch.equal(agreement, (p.argmax(-1) == q.argmax(-1)).double())


def test_a_model_is_at_no_distance_from_itself() -> None:
    divergence, agreement = compared(tiny_model("llama"), tiny_model("llama"), tiny_ids())
    assert divergence.abs().max() < 1e-6
    assert agreement.min() == 1


@torch.no_grad()
def test_of_a_cut_vocabulary_the_original_chooses_among_the_tokens_that_are_left(plugins: Plugins) -> None:
    original = tiny_model("llama")
    [family] = [row for row in plugins.registry.families if "llama" in row.model_types]
    kept = [0, 1, 2, *range(10, 40)]
    cut = ModelView(noisy(original), family)
    keep_tokens(cut, kept)
    ids = torch.arange(3, 27).reshape(2, 12)
    divergence, _ = compared(cut.model, original, ids, kept)
    p = original(torch.tensor(kept)[ids]).logits[:, :-1][..., kept].double().log_softmax(-1)
    q = cut.model(ids).logits[:, :-1].double().log_softmax(-1)
    torch.testing.assert_close(divergence, (p.exp() * (p - q)).sum(-1), rtol=1e-5, atol=1e-6)


def test_items_are_windows_and_their_mean_is_the_value() -> None:
    measure, model = KlToDense(TEXT, seq_len=16), tiny_model("llama")
    prepared = measure.prepare(tiny_tokenizer(), model.config)
    numbers = measure.measure(noisy(model), tiny_tokenizer(), MeasureContext(prepared, lambda: model, False))
    kl = numbers["kl-to-dense"]
    assert len(kl.items) == len(prepared.rows) == 11
    assert kl.value == pytest.approx(sum(kl.items) / 11)
    assert kl.standard_error is not None


def test_the_original_model_is_not_run_against_itself() -> None:
    measure, model = KlToDense(TEXT, seq_len=16), tiny_model("llama")
    prepared = measure.prepare(tiny_tokenizer(), model.config)
    numbers = measure.measure(None, tiny_tokenizer(), MeasureContext(prepared, lambda: model, True))
    assert (numbers["kl-to-dense"].value, numbers["same-top-token"].value) == (0, 1)


def test_what_cannot_be_measured_is_refused() -> None:
    config = tiny_model("llama").config
    with pytest.raises(TextError, match="fills no window of 60"):
        KlToDense(TEXT, seq_len=60, max_tokens=50).prepare(tiny_tokenizer(), config)
    with pytest.raises(RecipeError, match="the model takes at most") as error:
        KlToDense(TEXT, seq_len=10**6).prepare(tiny_tokenizer(), config)
    assert error.value.path == ("seq_len",)
    broken = tiny_model("llama")
    with torch.no_grad():
        broken.lm_head.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="kl-to-dense cannot be measured"):
        compared(broken, tiny_model("llama"), tiny_ids())
