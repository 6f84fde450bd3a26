"""The pieces of one source of text to train on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from swm.interfaces.conversation import Conversations
from swm.interfaces.text import Example, TextSource
from swm.text.chat import ChatWriter
from swm.text.source_text import source_stream
from swm.text.token_rows import pieces_of_rows
from swm.text.tokens import MAX_CHARACTERS, first_ids, read_text, windows_of
from swm.text.vocabulary import may_fail, valid_id, wants_bos
from swm.training.piece import Piece


def text_pieces(
    tokenizer: Any, source: TextSource, cutoff: int, wanted: int | None, generator: torch.Generator
) -> tuple[list[Piece], Mapping[str, int]]:
    """All pieces of a source that is no mix, in its order, and what a report says of how it was read.

    Args:
        tokenizer: The tokenizer of the model.
        source: The text.
        cutoff: The most tokens of a piece.
        wanted: How many pieces are needed; None for all there are.
        generator: Draws the parts of a huge text.

    Raises:
        TextError: For what is no text, and for conversations that no template writes.
    """
    pieces = _given_pieces(tokenizer, source, cutoff)
    if pieces is not None:
        return list(pieces), {}
    text = read_text(source.documents("calibration"), source.title())
    bos = _beginning(tokenizer)
    enough = len(text.joined) if wanted is None else wanted
    blocks = windows_of(tokenizer, text, cutoff - len(bos), enough, generator)
    return [Piece((*bos, *block.tolist())) for block in blocks], text.record()


def count_pieces(tokenizer: Any, source: TextSource, cutoff: int, enough: int) -> int:
    """How many pieces a source gives; no more are counted than are `enough`, unless a token may be without embedding.

    Args:
        tokenizer: The tokenizer of the model.
        source: The text.
        cutoff: The most tokens of a piece.
        enough: How many pieces are needed.

    Raises:
        TextError: As `text_pieces`.
    """
    search = may_fail(tokenizer)
    pieces = _given_pieces(tokenizer, source, cutoff)
    if pieces is not None:
        return sum(1 for _ in (pieces if search else itertools.islice(pieces, enough)))
    stream = source_stream(tokenizer, source, "calibration", None if search else enough * cutoff)
    return len(stream.ids) // (cutoff - len(_beginning(tokenizer)))


def _given_pieces(tokenizer: Any, source: TextSource, cutoff: int) -> Iterator[Piece] | None:
    """The pieces of a source that says itself where one ends; None for plain text."""
    examples, given, conversations = source.examples(), source.token_rows(), source.conversations()
    if examples is not None:
        return _of_examples(tokenizer, examples, cutoff)
    if given is not None:
        return (Piece(tuple(row.tolist())) for row in pieces_of_rows(given, cutoff))
    if conversations is not None:
        return _of_conversations(ChatWriter.of(tokenizer, conversations, source.title()), conversations, cutoff)
    return None


def _of_conversations(writer: ChatWriter, conversations: Conversations, cutoff: int) -> Iterator[Piece]:
    """Each conversation in pieces of at most `cutoff` tokens, of which those without a predicted token are left out."""
    characters = 0
    for conversation in conversations.rows:
        if conversation is None:
            continue
        if conversations.predicted == "all":
            ids = writer.ids(conversation)
            predicted = [True] * len(ids)
        else:
            written = writer.with_answers(conversation)
            ids, predicted = written.ids, written.predicted
        for begin in range(0, len(ids), cutoff):
            piece = Piece.of_marked(ids[begin : begin + cutoff], predicted[begin : begin + cutoff])
            if piece.targets > 0:
                yield piece
        characters += sum(len(message.content) for message in conversation.messages)
        if characters >= MAX_CHARACTERS:
            return


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
