"""Tokenizers in GGUF files: recognised by what they do, and refused where llama.cpp would split text otherwise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gguf_models import ascii_tokenizer, with_specials
from small_tokenizers import byte_fallback, byte_level, data_of, ignoring_merges, small_tokenizer
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors

from swm.errors import ModelError
from swm.gguf.tokenizer import tokenizer_entries
from swm.vocabulary.tokenizer_json import TokenizerJson

LLAMA3 = "|".join(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)


def entries(made: Tokenizer, rows: int = 2000, **options: Any) -> dict[str, Any]:
    return dict(tokenizer_entries(with_specials(made), rows, "mine", **options).values)


def why_not(made: Tokenizer) -> str:
    with pytest.raises(ModelError, match="the tokenizer of model 'mine' cannot be written as GGUF: ") as raised:
        entries(made)
    return raised.value.message.partition("GGUF: ")[2]


def splitting_by(pattern: str) -> Tokenizer:
    made = byte_level()
    parts = [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    made.pre_tokenizer = pre_tokenizers.Sequence(parts)
    return made


def with_merges_ignored(made: Tokenizer) -> Tokenizer:
    data = data_of(made)
    data["model"]["ignore_merges"] = True
    return Tokenizer.from_str(json.dumps(data))


def test_pre_tokenizers_are_told_by_their_steps() -> None:
    digits = byte_level()
    parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    digits.pre_tokenizer = pre_tokenizers.Sequence(parts)
    named = {
        "gpt-2": byte_level(),
        "smollm": digits,
        "dbrx": splitting_by(LLAMA3),
        "llama-bpe": with_merges_ignored(splitting_by(LLAMA3)),
    }
    assert {name: entries(made)["tokenizer.ggml.pre"] for name, made in named.items()} == {name: name for name in named}


def test_a_vocabulary_that_was_cut_is_told_as_the_whole_one() -> None:
    whole = byte_level()
    kept = [i for i in range(whole.get_vocab_size()) if i not in (700, 701)]
    cut = Tokenizer.from_str(json.dumps(TokenizerJson(data_of(whole)).cut(kept)))
    values = entries(cut, rows=cut.get_vocab_size())
    assert values["tokenizer.ggml.pre"] == "gpt-2"
    assert len(values["tokenizer.ggml.tokens"]) == whole.get_vocab_size() - 2


def test_whole_words_count_only_where_merges_do_not_make_them() -> None:
    # Every token is made by merges, so that taking it as a whole changes nothing.
    assert entries(ignoring_merges())["tokenizer.ggml.pre"] == "gpt-2"
    data = data_of(ignoring_merges())
    data["model"]["merges"] = data["model"]["merges"][:-1]
    assert "ignore_merges" in why_not(Tokenizer.from_str(json.dumps(data)))


def test_rows_without_a_token_get_one_and_tokens_without_a_row_go() -> None:
    made = byte_level()
    count = made.get_vocab_size()
    values = entries(made, rows=count + 2)
    assert values["tokenizer.ggml.tokens"][count:] == [f"[PAD{count}]", f"[PAD{count + 1}]"]
    assert values["tokenizer.ggml.token_type"][-3:] == [3, 5, 5]
    fewer = tokenizer_entries(with_specials(made), count - 1, "mine")
    assert len(fewer.values["tokenizer.ggml.tokens"]) == count - 1
    assert fewer.notes == ["tokens without an embedding were left out: 1"]


def test_special_ids_ends_and_template() -> None:
    values = entries(byte_level())
    keys = ("bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id", "add_bos_token", "add_eos_token")
    assert [values[f"tokenizer.ggml.{key}"] for key in keys] == [1, 2, 3, 0, False, False]
    tokenizer = with_specials(ignoring_merges())
    tokenizer.chat_template = "{{ messages }}"
    values = dict(tokenizer_entries(tokenizer, 2000, "mine").values)
    assert (values["tokenizer.ggml.add_bos_token"], values["tokenizer.chat_template"]) == (True, "{{ messages }}")


def test_pieces_get_scores_in_the_order_of_their_merges() -> None:
    made = byte_fallback()
    values = entries(made, rows=made.get_vocab_size())
    assert values["tokenizer.ggml.model"] == "llama"
    assert values["tokenizer.ggml.add_space_prefix"] is False
    scores = dict(zip(values["tokenizer.ggml.tokens"], values["tokenizer.ggml.scores"], strict=True))
    merged = list(dict.fromkeys("".join(pair) for pair in data_of(made)["model"]["merges"]))
    assert sorted(merged, key=lambda token: -scores[token]) == merged
    types = dict(zip(values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"], strict=True))
    assert (types["<0x0A>"], types["<s>"], types[merged[0]]) == (6, 3, 1)


def test_added_tokens_are_no_merges_of_pieces() -> None:
    data = data_of(byte_fallback())
    number = max(data["model"]["vocab"].values()) + 1
    twice = 2 * "".join(data["model"]["merges"][-1])
    data["model"]["vocab"][twice] = number
    assert "which are no merge of its list" in why_not(Tokenizer.from_str(json.dumps(data)))
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    data["added_tokens"].append({"id": number, "content": twice, **added})
    assert entries(Tokenizer.from_str(json.dumps(data)))["tokenizer.ggml.token_type"][number] == 4


def missing_merge() -> Tokenizer:
    data = data_of(byte_fallback())
    data["model"]["merges"] = data["model"]["merges"][:-1]
    return Tokenizer.from_str(json.dumps(data))


def lowercase() -> Tokenizer:
    made = byte_level()
    made.normalizer = normalizers.Lowercase()
    return made


def leading_space() -> Tokenizer:
    made = byte_level()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return made


def more_around() -> Tokenizer:
    made = byte_level()
    made.post_processor = processors.TemplateProcessing("<s> <unk> $A", None, [("<s>", 1), ("<unk>", 3)])
    return made


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: splitting_by(r"\w+|\W"), r"its pre-tokenizer is none that is known: split \w+|\W"),
        (lowercase, "it changes text first (Lowercase)"),
        (leading_space, "add_prefix_space"),
        (more_around, "it puts more than BOS and EOS around a text: ['<s>', '<unk>'"),
        (missing_merge, "which are no merge of its list"),
        (lambda: small_tokenizer("unigram"), "it is a Unigram; known: BPE"),
        (lambda: small_tokenizer("word level"), "it is a WordLevel; known: BPE"),
        (lambda: small_tokenizer("word piece"), "it is a WordPiece; known: BPE"),
    ],
)
def test_what_llama_cpp_would_split_otherwise_is_refused(make, expected: str) -> None:
    assert expected in why_not(make())


def test_where_llama_cpp_differs_is_said() -> None:
    made = Tokenizer.from_str(ascii_tokenizer().backend_tokenizer.to_str())
    made.normalizer = normalizers.NFC()
    assert "composes characters first (NFC)" in tokenizer_entries(with_specials(made), 300, "mine").notes[0]
