"""A tokenizer.json: what always stays, and the numbers of what is left."""

from __future__ import annotations

from typing import Any

import pytest
from small_tokenizers import BYTES, SPECIAL, data_of, small_tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from swm.errors import ModelError
from swm.vocabulary.proof import check_same_tokens
from swm.vocabulary.tokenizer_json import TokenizerJson


def named(data: TokenizerJson) -> set[str]:
    return {data.tokens[i] for i in data.always_kept()}


def test_special_and_added_tokens_and_all_bytes_stay() -> None:
    assert named(TokenizerJson(data_of(small_tokenizer("byte level")))) == {
        *SPECIAL,
        "<|im_start|>",
        *ByteLevel.alphabet(),
    }
    # The mark of a space, which would be no space again when it was split into bytes.
    assert named(TokenizerJson(data_of(small_tokenizer("byte fallback")))) == {*SPECIAL, *BYTES, "▁"}
    assert named(TokenizerJson(data_of(small_tokenizer("word level")))) == set(SPECIAL)


def test_what_is_added_to_every_text_gets_the_new_numbers() -> None:
    data = data_of(small_tokenizer("byte level without merges of words"))
    data["padding"] = {
        "strategy": "BatchLongest",
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    whole = TokenizerJson(data)
    byte = min(whole.ids[letter] for letter in ByteLevel.alphabet())
    kept = sorted(whole.always_kept() - {0})
    cut = whole.cut(kept)
    assert cut["post_processor"]["special_tokens"]["<s>"]["ids"] == [0]
    assert cut["padding"] is None
    assert cut["added_tokens"][0] == {**data["added_tokens"][1], "id": 0}
    assert cut["model"]["vocab"][whole.tokens[byte]] == byte - 1
    with pytest.raises(ModelError, match="adds the id 1 to texts"):
        whole.cut(sorted(whole.always_kept() - {1}))
    pair = TokenizerJson(data_of(small_tokenizer("word piece")))
    assert pair.cut([1, 2, 3, 50])["post_processor"] == {
        "type": "BertProcessing",
        "sep": ["</s>", 1],
        "cls": ["<s>", 0],
    }


def test_files_of_old_releases_do_not_name_the_kind() -> None:
    for kind in ("byte level", "unigram", "word level"):
        data = data_of(small_tokenizer(kind))
        expected = type(TokenizerJson(data).model)
        del data["model"]["type"]
        assert type(TokenizerJson(data).model) is expected


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ModelError, match="kind 'Other' cannot be cut; only BPE, Unigram, WordLevel, WordPiece can"):
        TokenizerJson({"model": {"type": "Other", "vocab": {}}})
    slow: Any = object()
    with pytest.raises(ModelError, match="it is no fast tokenizer"):
        TokenizerJson.of(slow)
    fast = PreTrainedTokenizerFast(tokenizer_object=small_tokenizer("byte level"))
    assert TokenizerJson.of(fast).ids == small_tokenizer("byte level").get_vocab()


def test_a_cut_that_splits_a_text_otherwise_is_noticed() -> None:
    """The parts of a token are left out, as nobody should."""
    whole = TokenizerJson(data_of(small_tokenizer("byte level")))
    word = next(i for i in range(600, 900) if len(whole.tokens[i]) > 3 and whole.tokens[i].isalpha())
    text = whole.tokens[word]
    right = sorted(whole.closed({*whole.always_kept(), word}))
    wrong = sorted({*whole.always_kept(), word})
    assert check_same_tokens(whole, whole.cut(right), right, [text, "no kept tokens here"]) == 1
    with pytest.raises(ModelError, match=f"it splits '{text}' otherwise"):
        check_same_tokens(whole, whole.cut(wrong), wrong, [text])
