"""Tokenizers of pieces with single bytes for what has none, as SentencePiece makes them (`llama` in GGUF files).

llama.cpp has no list of merges for them: of all neighbours that give a token together it merges those whose token has
the highest score. That is the same when the list holds every such pair, and all pairs of a token one after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from swm.gguf.token_types import BYTE, NORMAL, UNKNOWN, Tokens
from swm.loading.pre_tokenizers import OF_PIECES
from swm.shown.values import quoted
from swm.vocabulary.token_model import BYTE as BYTE_TOKEN

SPACE = "▁"
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
PREPEND = {"type": "Prepend", "prepend": SPACE}
# Behind the replacement there is no space left to split at.
NO_SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def space_in_front(data: Mapping[str, Any]) -> bool | str:
    """Whether a space is put before a text; a sentence where llama.cpp does not know how spaces are treated."""
    normalizer, before = data.get("normalizer"), data.get("pre_tokenizer")
    parts = normalizer.get("normalizers", [normalizer]) if normalizer else []
    if parts in ([REPLACE], [PREPEND, REPLACE]) and before in (None, NO_SPLIT):
        return len(parts) == 2
    if not parts and before and before.get("type") == "Metaspace" and before.get("replacement") == SPACE:
        inside = any(SPACE in token[1:] for token in data["model"]["vocab"])
        if not (before.get("split", True) and inside):
            return bool(before.get("prepend_scheme") != "never")
    return "spaces are treated in a way that llama.cpp does not know (normalizer and pre_tokenizer of tokenizer.json)"


def pieces_refusal(data: Mapping[str, Any]) -> str:
    """Why llama.cpp would split text otherwise; empty where it would not."""
    spaces = space_in_front(data)
    if isinstance(spaces, str):
        return spaces
    return _odd_merges(data)


def _odd_merges(data: Mapping[str, Any]) -> str:
    """Why scores of tokens cannot say what the list of merges says. Added tokens are told from text before."""
    pairs = _pairs(data["model"])
    added = {one["content"] for one in data.get("added_tokens", ())}
    vocabulary, known = data["model"]["vocab"].keys() - added, set(pairs)
    order = [first + second for first, second in pairs]
    if len(list(itertools.groupby(order))) != len(set(order)):
        return "its merges cannot be told by a score for each token: those of one token do not follow each other"
    for token in vocabulary:
        cuts = range(1, 0 if BYTE_TOKEN.fullmatch(token) else len(token))
        for one, other in ((token[:cut], token[cut:]) for cut in cuts):
            if one in vocabulary and other in vocabulary and (one, other) not in known:
                return f"llama.cpp would merge {quoted(one)} and {quoted(other)}, which are no merge of its list"
    return ""


def _pairs(model: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    return [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ", 1)) for merge in model["merges"]]


def pieces_values(data: Mapping[str, Any], tokens: Tokens) -> dict[str, Any]:
    """The metadata of a tokenizer that was not refused. The types of bytes and of the unknown token are their own."""
    model = data["model"]
    ranks: dict[str, int] = {}
    for first, second in _pairs(model):
        ranks.setdefault(first + second, len(ranks))
    types = [
        kind
        if kind != NORMAL
        else BYTE
        if BYTE_TOKEN.fullmatch(text)
        else UNKNOWN
        if text == model.get("unk_token")
        else NORMAL
        for text, kind in zip(tokens.texts, tokens.types, strict=True)
    ]
    return {
        "tokenizer.ggml.model": OF_PIECES,
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": [-float(ranks.get(text, len(ranks))) for text in tokens.texts],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.add_space_prefix": bool(space_in_front(data)),
    }


def pieces_notes(data: Mapping[str, Any]) -> list[str]:
    """Where llama.cpp differs, in sentences."""
    if (data.get("pre_tokenizer") or {}).get("prepend_scheme") != "first":
        return []
    return ["the tokenizer puts a space before a text alone; llama.cpp puts one behind each special token too"]
