"""How the tokenizer of a GGUF file splits text into words, which transformers does not read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from swm.errors import ModelError
from swm.loading.pre_tokenizers import OF_BYTES, PRE_TOKENIZERS, as_json, named, steps_of

# What old files leave out, and what llama.cpp calls it: nobody knows then how the model's own tokenizer splits text.
UNSAID = ("", "default")


def restore_pre_tokenizer(reader: Any, file: Path, name: str) -> None:
    """Let a converted tokenizer.json split text as `tokenizer.ggml.pre` says.

    transformers splits as GPT-2 does, whatever the file says: numbers then become tokens that the model has never read
    there.

    Args:
        reader: gguf's reader of the file.
        file: The tokenizer.json that transformers made of it.
        name: What the user calls the GGUF file.

    Raises:
        ModelError: For a name that is none of `PRE_TOKENIZERS`.
    """
    said = _text(reader, "tokenizer.ggml.pre")
    if _text(reader, "tokenizer.ggml.model") != OF_BYTES or said in UNSAID or not file.exists():
        return
    row = named(said)
    if row is None:
        known = ", ".join(one.name for one in PRE_TOKENIZERS)
        raise ModelError(
            f"GGUF file {name}: its tokenizer splits text by the rules '{said}' (tokenizer.ggml.pre), which swm does "
            f"not know, so that tokens would be wrong; known: {known}. Use the folder that the file was made of"
        )
    data = json.loads(file.read_text(encoding="utf-8"))
    if steps_of(data["pre_tokenizer"]) == row.steps and bool(data["model"].get("ignore_merges")) == row.ignore_merges:
        return
    data["pre_tokenizer"] = as_json(row.steps)
    data["model"]["ignore_merges"] = row.ignore_merges
    file.write_text(json.dumps(data, ensure_ascii=False, indent=2), encoding="utf-8")


def _text(reader: Any, key: str) -> str:
    field = reader.fields.get(key)
    return "" if field is None else str(bytes(field.parts[-1]), "utf-8")
