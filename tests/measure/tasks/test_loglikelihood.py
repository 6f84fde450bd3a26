"""Scores of token sequences equal those of lm-eval's own class, which runs each sequence by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from swm.errors import ModelError
from swm.measure.tasks import loglikelihood
from swm.measure.tasks.forward import run_packed
from swm.measure.tasks.loglikelihood import Pair

Answers = list[tuple[float, bool]]
Score = Callable[..., Answers]

CALLED = "run_packed"


def alone(model: Any, pairs: Sequence[Pair], longest: int = 64) -> Answers:
    """The definition: one pass a pair, all scores of the model's own forward."""
    found = []
    with torch.no_grad():
        for context, continuation in pairs:
            ids = torch.tensor([[*context, *continuation][-(longest + 1) :]])
            scores = model(input_ids=ids[:, :-1], use_cache=False).logits[0, -len(continuation) :].log_softmax(-1)
            told = torch.tensor(list(continuation))
            total = scores.gather(1, told[:, None]).sum().item()
            found.append((total, bool((scores.argmax(-1) == told).all())))
    return found


def same(found: Answers, expected: Answers) -> bool:
    apart = max(abs(one[0] - other[0]) for one, other in zip(found, expected, strict=True))
    return apart < 1e-4 and [flag for _, flag in found] == [flag for _, flag in expected]


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each packed pass had."""
    calls: list[int] = []

    def noted(model: Any, rows: Any, *rest: Any) -> None:
        calls.append(len(rows))
        run_packed(model, rows, *rest)

    monkeypatch.setattr(loglikelihood, CALLED, noted)
    return calls


def test_every_family_scores_as_lm_eval_does(
    any_model: Any, pairs: list[Pair], score: Score, hflm: Callable[..., Any], tokenizer: Any
) -> None:
    # logits_cache: with it HFLM itself errs on ([*stem, 5], [9, 8, 7]) beside ([*stem, 5, 9], [8, 7]).
    stock = hflm(any_model, tokenizer, batch_size=4, logits_cache=False)
    assert stock.max_length == 64
    expected = stock._loglikelihood_tokens([(("", ""), *pair) for pair in pairs], disable_tqdm=True)
    assert same(alone(any_model, pairs), expected)
    assert same(score(any_model, pairs), expected)
    assert same(score(any_model, pairs, batch_tokens=32), expected)


def test_every_family_packs_rightly(family: str, tiny: Any, pairs: list[Pair], score: Score, packed: list[int]) -> None:
    """With windows as long as the sequences, packing is allowed; the last passes are packed ones alone."""
    changes = {"sliding_window": 64} if getattr(tiny(family).config, "sliding_window", None) else {}
    model = tiny(family, **changes)
    assert same(score(model, pairs, batch_tokens=256), alone(model, pairs))
    assert len(packed) > 1, "the trial failed"


@pytest.mark.parametrize("name", ["mistral", "gemma2", "gemma3_text", "phi3"])
def test_a_sliding_window_shorter_than_the_sequences_is_not_packed(
    name: str, tiny: Any, pairs: list[Pair], score: Score, packed: list[int]
) -> None:
    model = tiny(name)
    assert same(score(model, pairs), alone(model, pairs))
    assert packed == []


def test_a_model_that_ignores_masks_fails_the_trial_and_is_scored_rightly(
    tiny: Any, pairs: list[Pair], score: Score, packed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("llama")
    forward = model.forward

    def deaf(input_ids: Tensor, position_ids: Tensor | None = None, attention_mask: Any = None, **rest: Any) -> Any:
        return forward(input_ids=input_ids, **rest)

    monkeypatch.setattr(model, "forward", deaf)
    assert same(score(model, pairs), alone(model, pairs))
    assert len(packed) == 1, "only the trial"


def test_a_model_without_keys_and_values_is_scored_rightly(
    tiny: Any, pairs: list[Pair], score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("llama")
    forward = model.forward

    def forgetful(input_ids: Tensor, use_cache: bool = False) -> Any:
        return forward(input_ids=input_ids, use_cache=False)

    monkeypatch.setattr(model, "forward", forgetful)
    assert same(score(model, pairs), alone(model, pairs))


def test_the_head_runs_on_no_place_twice(tiny: Any, score: Score) -> None:
    model = tiny("llama")
    places: list[int] = []
    model.get_output_embeddings().register_forward_hook(lambda _, given, __: places.append(given[0].shape[1]))
    context = list(range(3, 23))
    answers = score(model, [(context, [5]), (context, [6]), (context, [7, 8]), (context, [7, 9])])
    assert len(answers) == 4
    # One place after the context for all four, one after the 7 for two of them.
    assert sum(places) - 1 == 2, "beside the one token that shows whether the model keeps keys and values"


def test_a_likely_continuation_is_greedy(tiny: Any, score: Score) -> None:
    model = tiny("llama")
    context = [5, 6, 7]
    with torch.no_grad():
        best = int(model(input_ids=torch.tensor([context])).logits[0, -1].argmax())
    assert [flag for _, flag in score(model, [(context, [best]), (context, [best ^ 1])])] == [True, False]


def test_an_empty_continuation_is_certain(tiny: Any, score: Score) -> None:
    assert score(tiny("llama"), [([5, 6], [])]) == [(0.0, True)]
    assert score(tiny("llama"), []) == []


def test_a_continuation_longer_than_the_model_takes_is_refused(tiny: Any, score: Score) -> None:
    with pytest.raises(ModelError, match="a continuation has 65 tokens; the model takes 64"):
        score(tiny("llama"), [([5], [6] * 65)])


def test_scores_that_are_no_numbers_are_refused(tiny: Any, score: Score, pairs: list[Pair]) -> None:
    model = tiny("llama")
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not a number or infinite"):
        score(model, pairs)
