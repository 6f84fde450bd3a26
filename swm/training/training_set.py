"""Text as pieces of tokens to train on."""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from swm.errors import RecoveryError
from swm.interfaces.text import Example, TextSource
from swm.text.calibration import wants_bos
from swm.text.token_rows import pieces_of_rows
from swm.text.tokens import first_ids, read_text, token_stream, windows_of
from swm.text.vocabulary import may_fail, pad_id, valid_id

IGNORED = -100


@dataclass(frozen=True)
class Piece:
    """Token ids of one sequence; the loss counts on those from `start` on.

    They are kept in four bytes each, as a long text has many.
    """

    ids: Sequence[int]
    start: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", array("i", self.ids))

    def __hash__(self) -> int:
        return hash((tuple(self.ids), self.start))

    @property
    def targets(self) -> int:
        """How many tokens are predicted: the first of a sequence never is."""
        return len(self.ids) - max(self.start, 1)


@dataclass(frozen=True)
class TokenBatch:
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
    read: Mapping[str, int] = field(default_factory=dict)
    """Notes for the report: the number of rows without a text, whether the text was read to its end."""

    @cached_property
    def sha256(self) -> str:
        """A digest over all pieces."""
        digest = hashlib.sha256()
        for piece in (*self.pieces, *self.held_out):
            digest.update(repr((tuple(piece.ids), piece.start)).encode())
        return digest.hexdigest()

    def record(self) -> dict[str, Any]:
        """What the report says of it."""
        record = {"text": self.source, "pieces": len(self.pieces), "sha256": self.sha256, **self.read}
        return {**record, "held_out": len(self.held_out)} if self.held_out else record

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

    def collate(self, pieces: Sequence[Piece]) -> TokenBatch:
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
        return TokenBatch(ids, mask, labels)


def training_set(
    tokenizer: Any, source: TextSource, *, cutoff: int, seed: int, limit: int | None = None, held_out: int = 0
) -> TrainingSet:
    """Pieces of at most `cutoff` tokens: one for each example, or plain text cut into blocks of just that length.

    Prompts are not learned. Rows of token ids that a source holds are cut each by itself. Of a text with a document of
    more than 2,000,000 characters, no more is tokenised than the pieces need.

    Args:
        tokenizer: The tokenizer of the model.
        source: The text.
        cutoff: The most tokens of a piece.
        seed: Draws the pieces.
        limit: The most pieces to train on, all by default.
        held_out: How many other pieces are held out.

    Raises:
        RecoveryError: There are too few pieces.
    """
    generator = torch.Generator().manual_seed(seed)
    read: Mapping[str, int] = {}
    examples, given = source.examples(), source.token_rows()
    if examples is not None:
        pieces = list(_of_examples(tokenizer, examples, cutoff))
    elif given is not None:
        pieces = [Piece(tuple(row.tolist())) for row in pieces_of_rows(given, cutoff)]
    else:
        text = read_text(source.documents("calibration"), source.title())
        bos = _beginning(tokenizer)
        wanted = len(text.joined) if limit is None else limit + held_out
        blocks = windows_of(tokenizer, text, cutoff - len(bos), wanted, generator)
        pieces, read = [Piece((*bos, *block.tolist())) for block in blocks], text.record()
    _check_count(len(pieces), source, cutoff, held_out)
    order = torch.randperm(len(pieces), generator=generator).tolist()
    kept, held = order[held_out:][:limit], order[:held_out]
    return TrainingSet([pieces[i] for i in kept], [pieces[i] for i in held], source.spec(), pad_id(tokenizer), read)


def check_training_text(tokenizer: Any, source: TextSource, *, cutoff: int, held_out: int = 0) -> None:
    """Raise what `training_set` would for a text with too few pieces; reads no more than that takes.

    Where the tokenizer has tokens without an embedding, all of the text is read to find one.

    Args:
        tokenizer: The tokenizer of the model.
        source: The text.
        cutoff: The most tokens of a piece.
        held_out: How many pieces are held out.

    Raises:
        RecoveryError: There are too few pieces.
    """
    enough = held_out + 1
    examples, given = source.examples(), source.token_rows()
    search = may_fail(tokenizer)
    if given is not None:
        count = len(pieces_of_rows(given, cutoff))
    elif examples is not None:
        pieces = _of_examples(tokenizer, examples, cutoff)
        count = len(list(pieces if search else itertools.islice(pieces, enough)))
    else:
        tokens = None if search else enough * cutoff
        stream = token_stream(tokenizer, lambda: source.documents("calibration"), source.title(), tokens)
        count = len(stream.ids) // (cutoff - len(_beginning(tokenizer)))
    _check_count(count, source, cutoff, held_out)


def _check_count(count: int, source: TextSource, cutoff: int, held_out: int) -> None:
    if count <= held_out:
        raise RecoveryError(
            f"text '{source.title()}' gives {count} pieces of {cutoff} tokens to train on; "
            f"at least {held_out + 1} are needed"
        )


def _of_examples(tokenizer: Any, examples: Iterable[Example], cutoff: int) -> Iterator[Piece]:
    for example in examples:
        piece = _of_example(tokenizer, example, cutoff)
        if piece.targets > 0:
            yield piece


def _of_example(tokenizer: Any, example: Example, cutoff: int) -> Piece:
    prompt = first_ids(tokenizer, example.prompt, cutoff)
    whole = first_ids(tokenizer, example.prompt + example.response, cutoff)
    eos = tokenizer.eos_token_id if valid_id(tokenizer, tokenizer.eos_token_id) else None
    if prompt[-1:] == [eos] and whole[-1:] == [eos]:
        prompt = prompt[:-1]
    elif eos is not None and whole[-1:] != [eos]:
        whole = [*whole, eos]
    return Piece(tuple(whole[:cutoff]), min(len(prompt), cutoff))


def _beginning(tokenizer: Any) -> list[int]:
    return [tokenizer.bos_token_id] if wants_bos(tokenizer, "auto") else []
