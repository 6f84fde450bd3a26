"""Calibration: token ids drawn from text with a seed, and their fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from swm.errors import TextError
from swm.interfaces.text import Purpose, TextSource

# Text beyond this is not read: many times what any calibration set needs, a few seconds of tokenising.
MAX_CHARACTERS = 20_000_000

Bos = Literal["auto", "yes", "no"]


@dataclass(frozen=True)
class Calibration:
    """Token ids `[samples, seq_len]` (int64), where they come from, and a sha256 of them."""

    ids: Tensor
    source: dict[str, Any]
    seed: int

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.ids.numpy().tobytes()).hexdigest()

    def record(self) -> dict[str, Any]:
        """What the report says of it."""
        samples, seq_len = self.ids.shape
        return {
            "text": self.source,
            "samples": samples,
            "seq_len": seq_len,
            "seed": self.seed,
            "sha256": self.fingerprint,
        }


def token_stream(tokenizer: Any, source: TextSource, purpose: Purpose, enough: int | None = None) -> Tensor:
    """The documents joined by blank lines as one row of token ids, without special tokens.

    Reading stops early once the text surely holds `enough` tokens (a token is at most 16 characters on average).
    """
    limit = MAX_CHARACTERS if enough is None else min(MAX_CHARACTERS, enough * 16)
    text = "\n\n".join(_take(source.documents(purpose), limit))
    encoded = tokenizer(text, add_special_tokens=False, verbose=False)
    return torch.tensor(encoded["input_ids"], dtype=torch.long)


def _take(documents: Iterable[str], limit: int) -> Iterable[str]:
    total = 0
    for document in documents:
        yield document
        total += len(document)
        if total >= limit:
            return


def wants_bos(tokenizer: Any, bos: Bos) -> bool:
    """Whether each sample begins with the BOS token; `auto` does what the tokenizer itself does."""
    if bos == "no":
        return False
    if tokenizer.bos_token_id is None:
        if bos == "yes":
            raise TextError("bos: yes, but the tokenizer has no BOS token; use bos: no")
        return False
    return bos == "yes" or tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def draw(
    tokenizer: Any, source: TextSource, *, samples: int, seq_len: int, seed: int, bos: Bos = "auto"
) -> Calibration:
    """Draw `samples` distinct non-overlapping windows of `seq_len` tokens.

    Raises TextError, with the number of tokens there are, when the text is too short.
    """
    first = wants_bos(tokenizer, bos)
    width = seq_len - first
    stream = token_stream(tokenizer, source, "calibration")
    if len(stream) // width < samples:
        raise TextError(
            f"{samples} samples of {width} tokens need {samples * width} tokens; "
            f"text '{source.title()}' has {len(stream)} (enough for {len(stream) // width} samples)"
        )
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(stream) // width, generator=generator)[:samples].sort().values
    ids = torch.stack([stream[i * width : (i + 1) * width] for i in chosen.tolist()])
    if first:
        ids = torch.cat([torch.full((samples, 1), tokenizer.bos_token_id), ids], dim=1)
    return Calibration(ids, source.spec(), seed)
