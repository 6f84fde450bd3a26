"""Small tokenizers of each kind that can be cut, trained in a moment."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pydoc_data.topics import topics
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
BYTES = [f"<0x{i:02X}>" for i in range(256)]


@functools.cache
def training_text() -> tuple[str, ...]:
    """Some 100,000 characters of English and code."""
    return tuple(topics[name] for name in sorted(topics)[:12])


def byte_level(size: int = 900) -> Tokenizer:
    """As SmolLM2's: bytes as letters, a pattern that splits words, and merges of their pairs."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(training_text(), trainer)
    made.add_special_tokens([AddedToken("<|im_start|>", special=True)])
    return made


def ignoring_merges(size: int = 900) -> Tokenizer:
    """As Llama 3's: a word that is a token is not merged, but taken; and a template that adds BOS."""
    data = json.loads(byte_level(size).to_str())
    data["model"]["ignore_merges"] = True
    made = Tokenizer.from_str(json.dumps(data))
    made.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 1)])
    return made


def byte_fallback(size: int = 900) -> Tokenizer:
    """As Llama 2's and Gemma's: characters, single bytes for others, and every pair that gives a token as a merge."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never", split=False)
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, max_token_length=8)
    trained.train_from_iterator([line for text in training_text()[:4] for line in text.split("\n")], trainer)
    pieces = [token for token, _ in sorted(trained.get_vocab().items(), key=lambda item: item[1])]
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *BYTES, *pieces])}
    merges = [
        (token[:cut], token[cut:])
        for token in pieces
        for cut in range(1, len(token))
        if token[:cut] in vocabulary and token[cut:] in vocabulary
    ]
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 1)])
    made.add_special_tokens(SPECIAL)
    return made


def unigram(size: int = 700, fallback: bool = True) -> Tokenizer:
    """As XLM-R's and T5's: pieces with scores."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    made.train_from_iterator([line for text in training_text()[:4] for line in text.split("\n")], trainer)
    data = json.loads(made.to_str())
    if fallback:
        data["model"]["vocab"] += [[token, -30.0] for token in BYTES]
        data["model"]["byte_fallback"] = True
    made = Tokenizer.from_str(json.dumps(data))
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return made


def word_piece(size: int = 600) -> Tokenizer:
    """As BERT's: the longest token first."""
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False)
    made.train_from_iterator(training_text()[:4], trainer)
    made.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 1))
    return made


def word_level(size: int = 400) -> Tokenizer:
    """Whole words, and one token for all others."""
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False)
    made.train_from_iterator(training_text()[:4], trainer)
    return made


TOKENIZERS: Mapping[str, Callable[[], Tokenizer]] = {
    "byte level": byte_level,
    "byte level without merges of words": ignoring_merges,
    "byte fallback": byte_fallback,
    "unigram": unigram,
    "unigram without bytes": functools.partial(unigram, fallback=False),
    "word piece": word_piece,
    "word level": word_level,
}


@functools.cache
def small_tokenizer(kind: str) -> Tokenizer:
    """One of `TOKENIZERS`, trained once."""
    return TOKENIZERS[kind]()


def data_of(tokenizer: Tokenizer) -> dict[str, Any]:
    """What its tokenizer.json holds."""
    found: dict[str, Any] = json.loads(tokenizer.to_str())
    return found
