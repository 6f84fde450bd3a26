"""Tokens for which the model has no embedding: never used to pad, and named before anything runs on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

import swm
from swm.errors import SwmError, TextError
from swm.testing import tiny_model, tiny_tokenizer
from swm.text.vocabulary import bind, bos_id, encode, may_fail, pad_id, without_invalid

ROWS = 96


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """One that knows a token more than the model has embeddings, and pads with it."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=type(tiny_tokenizer().backend_tokenizer).from_str(tiny_tokenizer().backend_tokenizer.to_str()),
        bos_token="<s>",
        eos_token="</s>",
    )
    made.add_tokens([f"<new{i}>" for i in range(ROWS - len(made))])
    made.add_special_tokens({"pad_token": "[PAD]"})
    assert made.pad_token_id == ROWS
    return made


def test_padding_takes_an_id_that_has_an_embedding(tokenizer: Any) -> None:
    assert pad_id(tokenizer) == ROWS  # nobody said how many rows there are
    assert pad_id(bind(tokenizer, ROWS)) == tokenizer.eos_token_id
    tokenizer.eos_token = "[PAD]"
    assert pad_id(tokenizer) == 0
    assert pad_id(bind(tokenizer, ROWS + 1)) == ROWS


def test_a_text_names_the_token_that_has_no_embedding(tokenizer: Any) -> None:
    bind(tokenizer, ROWS)
    assert may_fail(tokenizer)
    assert encode(tokenizer, "a b") == tokenizer("a b")["input_ids"]
    with pytest.raises(TextError, match=r"turns '\[PAD\]' into id 96, and the model has 96 embeddings"):
        encode(tokenizer, "a [PAD] b")


def test_a_bos_token_without_an_embedding_is_named(tokenizer: Any) -> None:
    tokenizer.bos_token = "[PAD]"
    with pytest.raises(TextError, match="id 96"):
        bos_id(bind(tokenizer, ROWS))


def test_a_tokenizer_within_the_embeddings_cannot_fail() -> None:
    assert not may_fail(bind(tiny_tokenizer(), ROWS))


@pytest.mark.parametrize(
    ("ids", "kept"), [(95, 95), (96, None), (-1, None), ([2, 96], [2]), ([96], None), (True, None), ("2", None)]
)
def test_special_ids_are_cut_to_the_embeddings(ids: Any, kept: Any) -> None:
    assert without_invalid(ids, ROWS) == kept


DATA = {"name": "alpaca", "path": "data.json"}
LORA = {"recover": {"name": "lora", "steps": 2, "batch": 4, "data": DATA}}
PAD = {"name": "file", "path": "pad.txt"}


@pytest.fixture
def run(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Compresses a model whose tokenizer pads with an id beyond the embeddings, with these keys of the recipe."""
    monkeypatch.chdir(tmp_path)
    tiny_model("llama", max_position_embeddings=512).save_pretrained("model")
    tokenizer.save_pretrained("model")
    Path("pad.txt").write_text("some [PAD] words. " * 50)

    def run(also: list[Any] | None = None, **keys: Any) -> Any:
        depth = {"depth": {"pruner": "last", "target": {"layers": 1}}}
        text = {"text": "python-docs", "samples": 2, "seq_len": 16}
        return swm.compress("model", [depth, *(also or [])], **{"calibration": text, **keys})

    return run


def write_examples(output: str) -> None:
    rows = [{"instruction": "say " + "x" * i, "output": f"{output} word" * i} for i in range(1, 9)]
    Path("data.json").write_text(json.dumps(rows))


def test_training_pads_with_an_id_that_has_an_embedding(run: Callable[..., Any]) -> None:
    write_examples("fine")
    run([LORA])


@pytest.mark.parametrize(
    ("also", "keys", "place"),
    [
        ([], {"calibration": {"text": PAD, "samples": 2, "seq_len": 16}}, "calibration"),
        ([], {"evaluate": {"perplexity": {"text": PAD, "seq_len": 16}}}, "evaluate.perplexity"),
        ([], {"evaluate": {"prompts": ["fine", "Once [PAD]"]}}, "evaluate.prompts.1"),
        ([LORA], {}, "stages.1.recover"),
    ],
    ids=["calibration", "perplexity", "prompt", "training"],
)
def test_a_text_with_such_a_token_is_refused_before_the_weights_are_loaded(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, also: list[Any], keys: dict[str, Any], place: str
) -> None:
    write_examples("wrong [PAD]")
    monkeypatch.setattr("swm.loading.models.load_model", lambda *a, **k: pytest.fail("the weights were loaded"))
    with pytest.raises(SwmError, match=r"\[PAD\]") as raised:
        run(also, **keys)
    assert ".".join(map(str, raised.value.path)).startswith(place)
