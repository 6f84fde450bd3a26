"""A folder with a model type of its own names the class that transformers takes for the original's tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer
from zoo import save_zoo_model

from swm.checkpoint.tokenizer_class import FILE, name_tokenizer_class

TEXT = "The quick brown fox"


def custom(parent: Path, folder: Path) -> Path:
    """The tokenizer of the parent beside a model type that transformers does not know."""
    folder.mkdir()
    for name in ("tokenizer.json", FILE):
        shutil.copy(parent / name, folder)
    (folder / "config.json").write_text('{"model_type": "swm_own"}')
    return folder


def test_the_class_of_the_model_type_is_named(tmp_path: Path) -> None:
    parent = save_zoo_model(tmp_path / "qwen2", "qwen2")
    folder = custom(parent, tmp_path / "out")
    (note,) = name_tokenizer_class(parent, folder)
    assert note.startswith("tokenizer_config.json named TokenizersBackend and names Qwen2Tokenizer")
    before, after = (json.loads((place / FILE).read_text()) for place in (parent, folder))
    assert after == {**before, "tokenizer_class": "Qwen2Tokenizer"}
    one, other = (AutoTokenizer.from_pretrained(place) for place in (parent, folder))
    assert type(one) is type(other)
    assert one(TEXT)["input_ids"] == other(TEXT)["input_ids"]


@pytest.mark.parametrize("broken", [False, True])
def test_other_files_stay_byte_for_byte(tmp_path: Path, broken: bool) -> None:
    parent = save_zoo_model(tmp_path / "opt", "opt")
    folder = custom(parent, tmp_path / "out")
    if broken:
        (folder / FILE).write_text("{")
    before = (folder / FILE).read_bytes()
    assert name_tokenizer_class(parent, folder) == []
    assert (folder / FILE).read_bytes() == before
