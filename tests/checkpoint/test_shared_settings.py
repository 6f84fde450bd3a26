"""Settings beside a saved model: transformers 4 and 5 read the same, and nothing tells of the machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from swm.checkpoint.shared_settings import PRIVATE, share_settings
from swm.testing import tiny_model
from swm.testing.tiny import tiny_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with a tokenizer that transformers 5 has read from a folder and written."""
    tiny_model("llama").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<one>", "<two>"]})
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def settings(folder: Path, name: str = "tokenizer_config.json") -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / name).read_text())
    return data


def test_a_tokenizer_is_named_as_both_versions_know_it_and_read_the_same(folder: Path) -> None:
    before = settings(folder)
    assert before["tokenizer_class"] == "TokenizersBackend"
    assert before["is_local"] is True
    text = "a <one> b<two>"
    wanted = AutoTokenizer.from_pretrained(folder)
    share_settings(folder)
    after, again = settings(folder), AutoTokenizer.from_pretrained(folder)
    assert after["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert after["additional_special_tokens"] == ["<one>", "<two>"]
    assert not {*PRIVATE, "extra_special_tokens"} & set(after)
    assert type(again) is type(wanted)
    assert again(text)["input_ids"] == wanted(text)["input_ids"]
    assert again.special_tokens_map == wanted.special_tokens_map


def test_only_a_list_of_special_tokens_gets_its_older_name(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    for given, wanted in (
        ({"extra_special_tokens": ["<a>"], "additional_special_tokens": []}, {"additional_special_tokens": ["<a>"]}),
        ({"extra_special_tokens": ["<a>"], "additional_special_tokens": ["<b>"]}, None),
        ({"extra_special_tokens": {"a": "<a>"}, "tokenizer_class": None}, None),
    ):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(given))
        share_settings(tmp_path)
        assert settings(tmp_path) == (wanted or given)


def test_private_keys_go_from_settings_within_settings(tmp_path: Path) -> None:
    values = {"text_config": {"_name_or_path": "/home/me/model", "vocab_size": 8}, "local_files_only": True, "x": [1]}
    (tmp_path / "config.json").write_text(json.dumps(values))
    share_settings(tmp_path)
    assert settings(tmp_path, "config.json") == {"text_config": {"vocab_size": 8}, "x": [1]}


def test_what_needs_no_change_keeps_its_bytes(tmp_path: Path) -> None:
    named = '{"tokenizer_class":   "TokenizersBackend", "extra_special_tokens": {"image_token": "<i>"}}'
    for name, text in (
        ("config.json", '{ "a": 1.0 }'),
        # Without a tokenizer.json the class that is named counts.
        ("tokenizer_config.json", named),
        ("processor_config.json", "[]"),
        ("preprocessor_config.json", "{ damaged"),
    ):
        (tmp_path / name).write_text(text)
        share_settings(tmp_path)
        assert (tmp_path / name).read_text() == text
