"""The tokenizer of a smaller vocabulary, loaded by the classes that transformers builds anew from a vocabulary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_tokenizers import small_tokenizer, training_text
from transformers import AutoTokenizer, LlamaConfig

from swm.errors import ModelError
from swm.loading.models import ModelSource
from swm.model.view import ModelView
from swm.model.vocabulary_surgery import keep_tokens
from swm.run.retokenizing import cut_tokenizer, probe_ids
from swm.vocabulary.choice import Vocabulary
from swm.vocabulary.tokenizer_json import TokenizerJson

TEXT = training_text()[1][:2000]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def parent(folder: Path, kind: str, name: str) -> Path:
    """A folder with a tokenizer of this class, and without a model."""
    small_tokenizer(kind).save(str(folder / "tokenizer.json"))
    tokens = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"}
        for token in json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    }
    said = {"tokenizer_class": name, "added_tokens_decoder": tokens, **SPECIAL}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    LlamaConfig(vocab_size=2000).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("byte level", "GPT2Tokenizer"),
        ("byte level", "Qwen2Tokenizer"),
        ("byte level without merges of words", "PreTrainedTokenizerFast"),
        ("byte fallback", "LlamaTokenizer"),
        ("byte fallback", "GemmaTokenizer"),
        ("unigram", "T5Tokenizer"),
        ("word piece", "BertTokenizer"),
        ("word level", "PreTrainedTokenizerFast"),
    ],
)
def test_every_class_gives_the_kept_tokens_the_ids_of_their_rows(kind: str, name: str, tmp_path: Path) -> None:
    folder = parent(tmp_path, kind, name)
    whole = AutoTokenizer.from_pretrained(folder)
    ids = whole(TEXT)["input_ids"]
    data = TokenizerJson.of(whole)
    kept = Vocabulary(data, max(data.tokens) + 1, frozenset()).having(ids).kept
    assert len(kept) < len(data.tokens)
    cut = cut_tokenizer(ModelSource("m", folder), whole, kept, LlamaConfig(vocab_size=len(kept)))
    assert type(cut.tokenizer) is type(whole)
    assert [kept[i] for i in cut.tokenizer(TEXT)["input_ids"]] == ids
    assert cut.tokenizer.all_special_tokens == whole.all_special_tokens
    assert set(cut.tokenizer.get_vocab().values()) == set(range(len(kept)))


def test_tokens_whose_ids_would_not_be_those_of_the_rows_are_refused(tmp_path: Path) -> None:
    """A row without a token, below that of an added token: the tokenizer counts the added token on from the others."""
    folder = parent(tmp_path, "byte level", "GPT2Tokenizer")
    data = json.loads((folder / "tokenizer.json").read_text())
    data["added_tokens"][-1]["id"] = 901
    whole: Any = TokenizerJson(data)
    with pytest.raises(ModelError, match=r"its token .<.im_start.>. would not get the number of its row"):
        whole.cut([*whole.always_kept() - {901}, 900, 901])


def test_ids_to_compare_a_saved_model_on_are_rows_that_it_has(llama: ModelView) -> None:
    ids = torch.tensor([[3, 50], [7, 60]])
    assert probe_ids(ids, llama) is ids
    keep_tokens(llama, [0, 1, 2, 7, 50])
    assert probe_ids(ids, llama).tolist() == [[0, 4], [3, 0]]
