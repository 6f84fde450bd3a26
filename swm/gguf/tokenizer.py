"""The tokenizer of a folder in the metadata of a GGUF file. What llama.cpp would split otherwise is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swm.errors import ModelError
from swm.gguf.byte_level import byte_level_notes, byte_level_refusal, byte_level_values, is_byte_level
from swm.gguf.pieces import pieces_notes, pieces_refusal, pieces_values
from swm.gguf.token_types import tokens_of

SPECIAL = {"bos": "bos_token_id", "eos": "eos_token_id", "unknown": "unk_token_id", "padding": "pad_token_id"}


@dataclass(frozen=True)
class TokenizerEntries:
    """The metadata by key, and where llama.cpp differs, in sentences."""

    values: Mapping[str, Any]
    notes: list[str]


def tokenizer_entries(tokenizer: Any, rows: int, name: str) -> TokenizerEntries:
    """The metadata of a tokenizer.

    Args:
        tokenizer: As transformers loaded it.
        rows: The rows of the model's embedding.
        name: What the user calls the model.

    Raises:
        ModelError: With the reason, for a tokenizer that llama.cpp does not have.
    """
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ModelError(f"tokenizer of model '{name}' has no tokenizer.json, from which a GGUF file is written")
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    model = data["model"]
    if model["type"] != "BPE" or not (is_byte_level(data) or model.get("byte_fallback")):
        raise _refused(name, f"it is a {model['type']}; known: BPE of bytes, BPE of pieces with byte_fallback")
    bytewise = is_byte_level(data)
    why = byte_level_refusal(data) if bytewise else pieces_refusal(data)
    if why:
        raise _refused(name, why)
    tokens = tokens_of(data, rows)
    values = {"tokenizer.ggml.tokens": tokens.texts, "tokenizer.ggml.token_type": tokens.types}
    values.update(byte_level_values(data) if bytewise else pieces_values(data, tokens))
    for key, attribute in SPECIAL.items():
        token = getattr(tokenizer, attribute, None)
        if isinstance(token, int) and 0 <= token < rows:
            values[f"tokenizer.ggml.{key}_token_id"] = token
    values.update(_ends(tokenizer, name))
    if isinstance(tokenizer.chat_template, str):
        values["tokenizer.chat_template"] = tokenizer.chat_template
    notes = byte_level_notes(data) if bytewise else pieces_notes(data)
    return TokenizerEntries(values, [*notes, *_notes(data, tokens.left_out)])


def _ends(tokenizer: Any, name: str) -> dict[str, Any]:
    """What is put before and behind a text."""
    whole = tokenizer("a b", verbose=False)["input_ids"]
    plain = tokenizer("a b", add_special_tokens=False, verbose=False)["input_ids"]
    start = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), None)
    before, behind = ([], []) if start is None else (whole[:start], whole[start + len(plain) :])
    if start is None or before not in ([], [tokenizer.bos_token_id]) or behind not in ([], [tokenizer.eos_token_id]):
        raise _refused(name, f"it puts more than BOS and EOS around a text: {tokenizer.convert_ids_to_tokens(whole)}")
    return {"tokenizer.ggml.add_bos_token": bool(before), "tokenizer.ggml.add_eos_token": bool(behind)}


def _notes(data: Mapping[str, Any], left_out: int) -> list[str]:
    notes = []
    stripping = [one["content"] for one in data.get("added_tokens", ()) if one.get("lstrip") or one.get("rstrip")]
    if stripping:
        notes.append(
            f"{len(stripping)} added tokens, such as {stripping[0]}, take the spaces beside them; llama.cpp keeps those"
        )
    if left_out:
        notes.append(f"tokens without an embedding were left out: {left_out}")
    return notes


def _refused(name: str, why: str) -> ModelError:
    return ModelError(f"the tokenizer of model '{name}' cannot be written as GGUF: {why}")
