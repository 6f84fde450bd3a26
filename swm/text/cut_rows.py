"""A row of token ids cut into rows that begin with the BOS token, where it may stand in places already."""

from __future__ import annotations

import torch
from torch import Tensor


def begun(ids: Tensor, bos: int | None) -> Tensor:
    """The ids with BOS in front of them, unless they begin with it; None for a text without BOS."""
    if bos is None or (len(ids) and int(ids[0]) == bos):
        return ids
    return torch.cat([torch.tensor([bos], dtype=torch.long), ids])


def cut_rows(stream: Tensor, seq_len: int, bos: int | None) -> list[Tensor]:
    """Rows of `seq_len` tokens one behind the other, each with BOS in front; the last one may be shorter.

    A row that begins with BOS already gets no second one. `bos` is None where none is wanted.
    """
    rows: list[Tensor] = []
    place = 0
    while place < len(stream):
        # What `begun` puts in front of a row takes the place of one token of the stream.
        added = len(begun(stream[place : place + 1], bos)) - 1
        end = place + seq_len - added
        rows.append(begun(stream[place:end], bos))
        place = end
    return rows
