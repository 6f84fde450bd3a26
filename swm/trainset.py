"""Text as pieces of tokens to train on."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from swm.calibration import token_stream, wants_bos
from swm.errors import RecoveryError
from swm.interfaces.text import Example, TextSource

IGNORED = -100


@dataclass(frozen=True)
class Piece:
    """Token ids of one sequence; the loss counts on those from `start` on."""

    ids: tuple[int, ...]
    start: int = 0

    @property
    def targets(self) -> int:
        """How many tokens are predicted: the first of a sequence never is."""
        return len(self.ids) - max(self.start, 1)


@dataclass(frozen=True)
class Batch:
    """Sequences padded at their end: `ids`, `mask` (1 for tokens) and `labels` (-100 where none), `[samples, seq]`."""

    ids: Tensor
    mask: Tensor
    labels: Tensor


@dataclass(frozen=True)
class TrainingSet:
    """The pieces of a source, those held out for validation, and the source's name and parameters."""

    pieces: Sequence[Piece]
    held_out: Sequence[Piece]
    source: dict[str, Any]
    pad: int

    def record(self) -> dict[str, Any]:
        """What the report says of it."""
        digest = hashlib.sha256()
        for piece in (*self.pieces, *self.held_out):
            digest.update(repr((piece.ids, piece.start)).encode())
        found = {"text": self.source, "pieces": len(self.pieces), "sha256": digest.hexdigest()}
        return {**found, "held_out": len(self.held_out)} if self.held_out else found

    def batches(self, size: int, seed: int, first: int = 0) -> Iterator[list[Piece]]:
        """Batches without end from the one numbered `first` on, every epoch in an order of its own."""
        size = min(size, len(self.pieces))
        per_epoch = len(self.pieces) // size
        epoch, skip = divmod(first, per_epoch)
        while True:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
            order = torch.randperm(len(self.pieces), generator=generator).tolist()
            for i in range(skip, per_epoch):
                yield [self.pieces[k] for k in order[i * size : (i + 1) * size]]
            epoch, skip = epoch + 1, 0

    def collate(self, pieces: Sequence[Piece]) -> Batch:
        """One padded batch."""
        longest = max(len(piece.ids) for piece in pieces)
        ids = torch.full((len(pieces), longest), self.pad)
        labels = torch.full((len(pieces), longest), IGNORED)
        mask = torch.zeros((len(pieces), longest), dtype=torch.long)
        for row, piece in enumerate(pieces):
            end, start = len(piece.ids), max(piece.start, 1)
            ids[row, :end] = torch.tensor(piece.ids)
            labels[row, start:end] = torch.tensor(piece.ids[start:])
            mask[row, :end] = 1
        return Batch(ids, mask, labels)


def training_set(
    tokenizer: Any, source: TextSource, *, cutoff: int, seed: int, limit: int | None = None, held_out: int = 0
) -> TrainingSet:
    """Pieces of at most `cutoff` tokens: one for each example, or plain text cut into blocks of just that length.

    Prompts are not learned. At most `limit` pieces are drawn with the seed, besides `held_out` others.
    Raises RecoveryError when there are too few.
    """
    pieces = list(_pieces(tokenizer, source, cutoff))
    _check_count(len(pieces), source, cutoff, held_out)
    order = torch.randperm(len(pieces), generator=torch.Generator().manual_seed(seed)).tolist()
    kept = order[held_out:][:limit]
    pad = next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
    return TrainingSet([pieces[i] for i in kept], [pieces[i] for i in order[:held_out]], source.spec(), pad)


def check_text(tokenizer: Any, source: TextSource, *, cutoff: int, held_out: int = 0) -> None:
    """Raise what `training_set` would for a text with too few pieces; reads no more than that takes."""
    enough = held_out + 1
    found = itertools.islice(_pieces(tokenizer, source, cutoff, enough * cutoff), enough)
    _check_count(len(list(found)), source, cutoff, held_out)


def _check_count(count: int, source: TextSource, cutoff: int, held_out: int) -> None:
    if count <= held_out:
        raise RecoveryError(
            f"text '{source.title()}' gives {count} pieces of {cutoff} tokens to train on; "
            f"at least {held_out + 1} are needed"
        )


def _pieces(tokenizer: Any, source: TextSource, cutoff: int, enough: int | None = None) -> Iterator[Piece]:
    examples = source.examples()
    if examples is None:
        yield from _of_text(tokenizer, source, cutoff, enough)
        return
    for example in examples:
        piece = _of_example(tokenizer, example, cutoff)
        if piece.targets > 0:
            yield piece


def _of_example(tokenizer: Any, example: Example, cutoff: int) -> Piece:
    prompt = tokenizer(example.prompt, verbose=False)["input_ids"]
    whole = tokenizer(example.prompt + example.response, verbose=False)["input_ids"]
    eos = tokenizer.eos_token_id
    if prompt[-1:] == [eos] and whole[-1:] == [eos]:
        prompt = prompt[:-1]
    elif eos is not None and whole[-1:] != [eos]:
        whole = [*whole, eos]
    return Piece(tuple(whole[:cutoff]), min(len(prompt), cutoff))


def _of_text(tokenizer: Any, source: TextSource, cutoff: int, enough: int | None) -> list[Piece]:
    bos = [tokenizer.bos_token_id] if wants_bos(tokenizer, "auto") else []
    width = cutoff - len(bos)
    stream = token_stream(tokenizer, source, "calibration", enough).tolist()
    return [Piece((*bos, *stream[i : i + width])) for i in range(0, len(stream) - width + 1, width)]
