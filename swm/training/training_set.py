"""Text as pieces of tokens to train on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from swm.errors import RecoveryError
from swm.interfaces.text import TextSource, leaves, titles_of
from swm.interfaces.tokens_used import TokensUsed
from swm.text.vocabulary import pad_id
from swm.training.mixed_pieces import mixed_pieces
from swm.training.piece import Piece as Piece
from swm.training.piece import digest_of
from swm.training.text_pieces import count_pieces, text_pieces

IGNORED = -100


@dataclass(frozen=True)
class TokenBatch:
    """Sequences padded at their end: `ids`, `mask` (1 for tokens) and `labels` (-100 where none), `[samples, seq]`.

    `pieces` are the pieces of text in the batch, in order. Where a row holds several, `positions` has the position of
    each token in its own piece, and a token sees no other piece.
    """

    ids: Tensor
    mask: Tensor
    labels: Tensor
    pieces: Sequence[Piece] = ()
    positions: Tensor | None = None

    @property
    def predicted(self) -> Tensor:
        """Which places have a next token that counts, `[samples, seq - 1]`."""
        return self.labels[:, 1:] != IGNORED

    @property
    def places(self) -> tuple[Tensor, ...]:
        """The sample and the position of each of them, those of the first piece first."""
        return self.predicted.nonzero(as_tuple=True)

    def inputs(self) -> dict[str, Any]:
        """The arguments of the model's forward beside the ids."""
        if self.positions is None:
            return {"attention_mask": self.mask, "use_cache": False}
        # Of positions that begin anew, and no mask, transformers makes the mask.
        return {"attention_mask": None, "position_ids": self.positions, "use_cache": False}

    def to(self, device: torch.device) -> TokenBatch:
        """The batch on another device."""
        ids, mask, labels = (each.to(device) for each in (self.ids, self.mask, self.labels))
        positions = None if self.positions is None else self.positions.to(device)
        return TokenBatch(ids, mask, labels, self.pieces, positions)


@dataclass(frozen=True)
class TrainingSet:
    """The pieces of a source, those held out for validation, and the source's name and parameters."""

    pieces: Sequence[Piece]
    held_out: Sequence[Piece]
    source: dict[str, Any]
    pad: int
    read: Mapping[str, Any] = field(default_factory=dict)
    """Notes for the report: the number of rows without a text, whether the text was read to its end."""
    titles: Sequence[str] = ()
    """What messages call the sources of the pieces, by their numbers."""
    ended_by: str = ""
    """A note where a mix of sources ends with one that is too short for its share; empty for none."""

    @cached_property
    def sha256(self) -> str:
        """A digest over all pieces."""
        return digest_of((*self.pieces, *self.held_out))

    def record(self) -> dict[str, Any]:
        """What the report says of it."""
        record = {"text": self.source, "pieces": len(self.pieces), "sha256": self.sha256, **self.read}
        return {**record, "held_out": len(self.held_out)} if self.held_out else record

    def tokens_used(self, steps: int, batch: int, seed: int) -> list[TokensUsed]:
        """How many tokens of which source the first steps take, pieces counted as often as they come up.

        Args:
            steps: The number of steps.
            batch: The pieces of each.
            seed: The seed of the batches.
        """
        counts: dict[str, list[int]] = {}
        for piece in itertools.chain.from_iterable(itertools.islice(self.batches(batch, seed), steps)):
            title = self.titles[piece.source] if self.titles else str(self.source.get("name", "text"))
            count = counts.setdefault(title, [0, 0, 0])
            for i, number in enumerate((len(piece.ids), 1, piece.targets)):
                count[i] += number
        return [
            TokensUsed(title, tokens, pieces=pieces, predicted=predicted)
            for title, (tokens, pieces, predicted) in sorted(counts.items())
        ]

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
            for begin, hidden_end in piece.hidden:
                labels[row, begin:hidden_end] = IGNORED
            mask[row, :end] = 1
        return TokenBatch(ids, mask, labels, tuple(pieces))


def training_set(
    tokenizer: Any, source: TextSource, *, cutoff: int, seed: int, limit: int | None = None, held_out: int = 0
) -> TrainingSet:
    """Pieces of at most `cutoff` tokens: one for each example, or plain text cut into blocks of just that length.

    Prompts are not learned. Rows of token ids that a source holds, and conversations, are cut each by itself. Of a mix,
    there are pieces of each source, as near to its share of the tokens as pieces allow. Of a text with a document of
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
    wanted = None if limit is None else limit + held_out
    parts, ended_by = list(leaves(source)), ""
    read: Mapping[str, Any]
    if source.parts():
        pieces, read, ended_by = mixed_pieces(tokenizer, parts, cutoff, wanted, generator)
    else:
        pieces, read = text_pieces(tokenizer, source, cutoff, wanted, generator)
    _check_count(len(pieces), source, cutoff, held_out)
    if source.parts():
        # Each source was shuffled, and any first pieces are in the shares.
        order = [*range(len(pieces))]
    else:
        order = torch.randperm(len(pieces), generator=generator).tolist()
    kept, held = order[held_out:][:limit], order[:held_out]
    return TrainingSet(
        [pieces[i] for i in kept],
        [pieces[i] for i in held],
        source.spec(),
        pad_id(tokenizer),
        read,
        titles_of(parts),
        ended_by,
    )


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
    if source.parts():
        # How many pieces a mix has, only the shares of all of them tell.
        training_set(tokenizer, source, cutoff=cutoff, seed=0, limit=1, held_out=held_out)
        return
    _check_count(count_pieces(tokenizer, source, cutoff, enough), source, cutoff, held_out)


def _check_count(count: int, source: TextSource, cutoff: int, held_out: int) -> None:
    if count <= held_out:
        raise RecoveryError(
            f"text '{source.title()}' gives {count} pieces of {cutoff} tokens to train on; "
            f"at least {held_out + 1} are needed"
        )
