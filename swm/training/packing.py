"""Several pieces of text in one row, each of which sees itself alone, so that little is computed for padding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from swm.model.packing import takes_positions
from swm.model.token_scores import TokenScores
from swm.model.view import ModelView
from swm.training.piece import Piece
from swm.training.training_set import IGNORED, TokenBatch, TrainingSet

# Both ways must give the same scores: how far they may be apart, relative to how far scores are from their mean.
TOLERANCE = {torch.bfloat16: 0.03, torch.float16: 0.03}
EXACT = 1e-4


def packed(pieces: Iterable[Piece], width: int) -> list[list[Piece]]:
    """The pieces in rows of at most `width` tokens; a longer piece has a row of its own.

    Each goes into the first row that has space for it, the longest pieces first. The shortest rows come first.
    """
    rows: list[list[Piece]] = []
    filled: list[int] = []
    for piece in sorted(pieces, key=lambda piece: -len(piece.ids)):
        size = len(piece.ids)
        place = next((i for i, used in enumerate(filled) if used + size <= width), len(rows))
        if place == len(rows):
            rows.append([])
            filled.append(0)
        rows[place].append(piece)
        filled[place] += size
    return sorted(rows, key=lambda row: sum(len(piece.ids) for piece in row))


def collated(data: TrainingSet, rows: Sequence[Sequence[Piece]]) -> TokenBatch:
    """The batch of some rows; rows of one piece each are what they are without packing."""
    if all(len(row) == 1 for row in rows):
        return data.collate([row[0] for row in rows])
    shape = len(rows), max(sum(len(piece.ids) for piece in row) for row in rows)
    ids, labels = torch.full(shape, data.pad), torch.full(shape, IGNORED)
    # Padding stands at position 0, a sequence of its own each.
    positions, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    for row, pieces in enumerate(rows):
        begin = 0
        for piece in pieces:
            end, start = begin + len(piece.ids), max(piece.start, 1)
            tokens = torch.tensor(piece.ids)
            ids[row, begin:end] = tokens
            labels[row, begin + start : end] = tokens[start:]
            for first, last in piece.hidden:
                labels[row, begin + first : begin + last] = IGNORED
            positions[row, begin:end] = torch.arange(len(tokens))
            mask[row, begin:end] = 1
            begin = end
    return TokenBatch(ids, mask, labels, tuple(piece for row in rows for piece in row), positions)


def is_worth_packing(data: TrainingSet, width: int) -> bool:
    """Whether a text has pieces of which two fit into a row."""
    return len(_short(data, width)) > 1


def why_not_packed(view: ModelView, data: TrainingSet, width: int) -> str | None:
    """Why rows of several pieces are not right for a model, or None where they are.

    A few pieces are run in one row and one by one: no setting tells of a layer that goes its own way.
    """
    if not takes_positions(view.model):
        return f"{type(view.model).__name__} does not take positions and masks as they are given"
    short = _short(data, width)
    # The longest that fit, and the shortest.
    trial = list(dict.fromkeys([short[-1], short[-2], short[0]]))
    row, *_ = packed(trial, width)[::-1]
    try:
        together, apart = (_scores(view, data, rows) for rows in ([row], [[piece] for piece in row]))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        return f"{type(view.model).__name__} fails in such a row ({error})"
    difference = (together - apart).norm() / (apart - apart.mean()).norm().clamp_min(1e-12)
    if not difference <= TOLERANCE.get(view.dtype, EXACT):
        return f"{type(view.model).__name__} gives other scores in such a row (by {float(difference):.2g})"
    return None


def _short(data: TrainingSet, width: int) -> list[Piece]:
    return sorted((piece for piece in data.pieces if 2 * len(piece.ids) <= width), key=lambda piece: len(piece.ids))


@torch.no_grad()
def _scores(view: ModelView, data: TrainingSet, rows: Sequence[Sequence[Piece]]) -> Tensor:
    """The next-token scores of all predicted tokens, `[tokens, vocabulary]`."""
    batch = collated(data, rows).to(view.device)
    return torch.cat([scores for _, scores in TokenScores(view.model, batch.ids, batch.places, **batch.inputs())])
