"""Rows of token ids that a text source already holds: as many tokens of each as samples and windows have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from swm.errors import TextError
from swm.interfaces.text import Calibration, TextSource


def natural_shape(rows: Sequence[Tensor]) -> tuple[int, int]:
    """How many samples rows make, and of how many tokens, where nobody says: those of the longest row."""
    longest = max(2, max(map(len, rows)))
    return max(1, len(samples_of(rows, longest))), longest


def samples_of(rows: Sequence[Tensor], seq_len: int) -> Tensor:
    """The samples `[samples, seq_len]` of some rows.

    The beginning of each row where all of them have so many tokens. Otherwise rows are joined, one behind the other,
    and cut into windows that do not overlap, as documents are.
    """
    if all(len(row) >= seq_len for row in rows):
        return torch.stack([row[:seq_len] for row in rows])
    stream = torch.cat(list(rows))
    count = len(stream) // seq_len
    return stream[: count * seq_len].view(count, seq_len)


def pieces_of_rows(rows: Sequence[Tensor], longest: int, shortest: int = 2) -> list[Tensor]:
    """The rows in pieces of at most `longest` tokens; pieces of fewer than `shortest` are left out."""
    pieces = [piece for row in rows for piece in torch.split(row, longest)]
    return [piece for piece in pieces if len(piece) >= shortest]


def draw_rows(rows: Sequence[Tensor], source: TextSource, samples: int, seq_len: int, seed: int) -> Calibration:
    """Draw samples of rows, in their order; all of them where as many are wanted as there are.

    Args:
        rows: The rows of the source.
        source: Where they are from.
        samples: The number of samples.
        seq_len: The tokens of each.
        seed: The seed of the draw.

    Raises:
        TextError: There are too few.
    """
    table = samples_of(rows, seq_len)
    if len(table) < samples:
        raise TextError(
            f"{samples} samples of {seq_len} tokens are wanted; text '{source.title()}' has {len(rows)} rows of "
            f"{sum(map(len, rows))} tokens in all, which make {len(table)}"
        )
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(table), generator=generator)[:samples].sort().values
    whole = all(len(row) >= seq_len for row in rows)
    return Calibration(
        table[chosen].contiguous(), source.spec(), seed, {"sampling": "given rows" if whole else "given rows, joined"}
    )


def check_rows(rows: Sequence[Tensor], config: Any, title: str) -> None:
    """Raise TextError for the first id for which a model with this config has no embedding."""
    count = getattr(config.get_text_config(), "vocab_size", None)
    highest = max(int(row.max()) for row in rows)
    if isinstance(count, int) and highest >= count:
        raise TextError(
            f"text '{title}' holds the token id {highest}, and the model has {count} embeddings (ids 0 to "
            f"{count - 1}); these ids are those of another tokenizer"
        )
