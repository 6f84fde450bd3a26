"""Measuring as a recipe says."""

from __future__ import annotations

from typing import Any

import pytest

from swm.builtin.texts.inline import InlineText
from swm.errors import RecipeError
from swm.interfaces.progress import Silent
from swm.measure.evaluator import Evaluator, make_evaluator
from swm.measure.perplexity import PerplexityProtocol
from swm.measure.protocol import EvaluationRecipe
from swm.measure.speed_protocol import SpeedProtocol
from swm.testing import tiny_model, tiny_tokenizer


def evaluator(**asked: Any) -> Evaluator:
    return make_evaluator(EvaluationRecipe(**asked), tiny_tokenizer(), tiny_model("llama").config, Silent())


def test_what_the_recipe_asks_is_measured_in_one_order_and_nothing_else() -> None:
    text = InlineText(texts=("the quick brown fox",))
    made = evaluator(perplexity=PerplexityProtocol(text, seq_len=8), prompts=("fox",), max_new_tokens=2)
    results = dict(made.measure(tiny_model("llama"), "dense"))
    assert list(results) == ["perplexity", "answers"]
    assert results["perplexity"]["value"] > 1
    assert len(results["answers"]) == 1
    assert not dict(evaluator().measure(tiny_model("llama"), "dense"))


def test_results_of_the_same_model_are_recalled_in_the_order_of_measuring() -> None:
    recalled = evaluator().recall({"answers": ["x"], "fingerprint": "abc", "perplexity": {"value": 2.0}})
    assert list(recalled) == [("perplexity", {"value": 2.0}), ("answers", ["x"])]


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ({"perplexity": PerplexityProtocol(InlineText(texts=("abc",)), seq_len=10**6)}, ("perplexity", "seq_len")),
        ({"speed": SpeedProtocol(prompt_tokens=10**6)}, ("speed",)),
        ({"prompts": ("fox",), "max_new_tokens": 10**6}, ("prompts", 0)),
    ],
)
def test_what_is_longer_than_the_model_takes_is_refused_with_its_place(asked: dict[str, Any], path: Any) -> None:
    with pytest.raises(RecipeError, match="the model takes at most") as error:
        evaluator(**asked)
    assert error.value.path == path
