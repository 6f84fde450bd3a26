"""How the tokenizer of a GGUF file splits text into words, which transformers does not read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from swm.errors import ModelError
from swm.loading.pre_tokenizers import OF_BYTES, PRE_TOKENIZERS, PreTokenizer, as_json, named, steps_of

# What old files leave out, and what llama.cpp calls it: nobody knows then how the model's own tokenizer splits text.
UNSAID = ("", "default")


def words_of(reader: Any, name: str) -> PreTokenizer | None:
    """How a GGUF file says that its tokenizer splits text; None where it does not say, or merges no bytes.

    Args:
        reader: gguf's reader of the file.
        name: What the user calls the file.

    Raises:
        ModelError: For a name that is none of `PRE_TOKENIZERS`.
    """
    said = _text(reader, "tokenizer.ggml.pre")
    if _text(reader, "tokenizer.ggml.model") != OF_BYTES or said in UNSAID:
        return None
    row = named(said)
    if row is None:
        known = ", ".join(one.name for one in PRE_TOKENIZERS)
        raise ModelError(
            f"GGUF file {name}: its tokenizer splits text by the rules '{said}' (tokenizer.ggml.pre), which swm does "
            f"not know, so that tokens would be wrong; known: {known}. Use the folder that the file was made of"
        )
    return row


def restore_words(row: PreTokenizer, file: Path) -> None:
    """Let a converted tokenizer.json split text by the rules `row`.

    transformers splits as GPT-2 does, whatever the GGUF file says: several spaces before a number, say, then become
    tokens that the model has never read there.
    """
    data = json.loads(file.read_text(encoding="utf-8"))
    if steps_of(data["pre_tokenizer"]) == row.steps and bool(data["model"].get("ignore_merges")) == row.ignore_merges:
        return
    data["pre_tokenizer"] = as_json(row.steps)
    data["model"]["ignore_merges"] = row.ignore_merges
    file.write_text(json.dumps(data, ensure_ascii=False, indent=2), encoding="utf-8")


def _text(reader: Any, key: str) -> str:
    field = reader.fields.get(key)
    return "" if field is None else str(bytes(field.parts[-1]), "utf-8")
