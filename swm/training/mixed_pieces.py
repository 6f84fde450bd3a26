"""The pieces of a mix of several sources of text, as near to their shares of the tokens as pieces allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from swm.interfaces.text import Share, titles_of
from swm.text.shares import by_shares
from swm.training.piece import Piece
from swm.training.text_pieces import text_pieces


def mixed_pieces(
    tokenizer: Any, parts: Sequence[Share], cutoff: int, wanted: int | None, generator: torch.Generator
) -> tuple[list[Piece], dict[str, Any], str]:
    """Pieces of all sources, any first of which are about in the shares.

    Args:
        tokenizer: The tokenizer of the model.
        parts: The sources and their shares of the tokens.
        cutoff: The most tokens of a piece.
        wanted: How many pieces are needed; None for as many as the shares allow.
        generator: Draws the pieces of each source.

    Returns:
        The pieces, what a report says of how they were read, and a note where a source ends the mix; empty for none.

    Raises:
        TextError: As `text_pieces`.
    """
    rows: list[list[Piece]] = []
    titles = titles_of(parts)
    read: dict[str, Any] = {}
    for number, part in enumerate(parts):
        pieces, facts = text_pieces(tokenizer, part.text, cutoff, wanted, generator)
        order = torch.randperm(len(pieces), generator=generator).tolist()
        rows.append([replace(pieces[i], source=number) for i in order])
        if facts:
            read[titles[number]] = dict(facts)
    sizes = [[len(piece.ids) for piece in pieces] for pieces in rows]
    chosen, ended = by_shares(rows, sizes, [part.share for part in parts], wanted)
    beside = {"read": read} if read else {}
    if ended is None:
        return chosen, beside, ""
    return chosen, {**beside, "ended_by": titles[ended]}, _note(parts, rows, chosen, ended)


def _note(parts: Sequence[Share], rows: Sequence[Sequence[Piece]], chosen: Sequence[Piece], ended: int) -> str:
    """What the report says where a source has no more pieces while others have."""
    titles = titles_of(parts)
    left = [
        f"{sum(piece.source == i for piece in chosen)} of {len(pieces)} pieces of '{titles[i]}'"
        for i, pieces in enumerate(rows)
        if sum(piece.source == i for piece in chosen) < len(pieces)
    ]
    if not left:
        return ""
    return (
        f"the mix to train on ends with '{titles[ended]}', whose {len(rows[ended])} pieces are all of its share of "
        f"{parts[ended].share:g}: {', '.join(left)} are used"
    )
