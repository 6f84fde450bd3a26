"""Tokenizers that merge bytes (`gpt2` in GGUF files)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swm.errors import listed
from swm.loading.pre_tokenizers import OF_BYTES, PRE_TOKENIZERS, steps_of

SETTINGS = ("continuing_subword_prefix", "end_of_word_suffix", "dropout")


def is_byte_level(data: Mapping[str, Any]) -> bool:
    """Whether a tokenizer.json writes bytes as letters before it merges them."""
    part = data.get("pre_tokenizer") or {}
    return any(one.get("type") == "ByteLevel" for one in part.get("pretokenizers", [part]))


def byte_level_refusal(data: Mapping[str, Any]) -> str:
    """Why llama.cpp would split text otherwise; empty where it would not."""
    settings = [name for name in SETTINGS if data["model"].get(name)]
    if settings:
        return f"it has no place for {listed(settings)}"
    normalizer = data.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        return f"it changes text first ({normalizer.get('type')}), which llama.cpp does not"
    steps = steps_of(data.get("pre_tokenizer"))
    if isinstance(steps, str):
        return steps
    if not [row for row in PRE_TOKENIZERS if row.steps == steps]:
        return f"its pre-tokenizer is none that is known: {'; '.join(' '.join(step) for step in steps)}"
    return "" if pre_name(data) else "a word that is a token is taken as it is (ignore_merges), and llama.cpp merges it"


def pre_name(data: Mapping[str, Any]) -> str:
    """The name of the pre-tokenizer; empty where there is none that treats whole words alike."""
    steps, model = steps_of(data.get("pre_tokenizer")), data["model"]
    rows = [row for row in PRE_TOKENIZERS if row.steps == steps]
    ignores = bool(model.get("ignore_merges"))
    exact = [row.name for row in rows if row.ignore_merges == ignores]
    if exact:
        return exact[0]
    return rows[0].name if rows and _all_merged(data) else ""


def _all_merged(data: Mapping[str, Any]) -> bool:
    """Whether merges make every token but the added ones, so that taking it as a whole gives nothing else."""
    from tokenizers import models

    model, added = data["model"], {one["content"] for one in data.get("added_tokens", ())}
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ", 1)) for merge in model["merges"]]
    merger = models.BPE(vocab=dict(model["vocab"]), merges=merges)
    return all(len(merger.tokenize(token)) == 1 for token in model["vocab"] if token not in added)


def byte_level_values(data: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a tokenizer that was not refused."""
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in data["model"]["merges"]]
    return {
        "tokenizer.ggml.model": OF_BYTES,
        "tokenizer.ggml.pre": pre_name(data),
        "tokenizer.ggml.merges": merges,
    }


def byte_level_notes(data: Mapping[str, Any]) -> list[str]:
    """Where llama.cpp differs, in sentences."""
    if data.get("normalizer") is None:
        return []
    return [
        "the tokenizer composes characters first (NFC); llama.cpp does not, and splits text in another form otherwise"
    ]
