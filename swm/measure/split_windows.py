"""Windows of a text for a model that has lost tokens: the same pieces of text, split into the tokens it has left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from swm.measure.token_windows import TokenWindows
from swm.model.token_ids import new_rows
from swm.vocabulary.tokenizer_json import TokenizerJson


def split_windows(windows: TokenWindows, before: Any, after: Any, kept: Sequence[int]) -> TokenWindows:
    """Windows that hold the text of the given ones. Each counts the tokens that it had, so that the perplexity is still
    one a token of the original model, and of the same text after the same text.

    What replaces the first token of a window is not scored, as that token was not.

    Args:
        windows: Those of the original model.
        before: Its tokenizer.
        after: The tokenizer of the tokens that are left.
        kept: Their original ids, ascending.
    """
    splitter = _Splitter(before, after, kept)
    rows, leads = zip(*(splitter.split(row) for row in windows.rows), strict=True)
    return TokenWindows(list(rows), windows.record, leads, [len(row) - 1 for row in windows.rows])


class _Splitter:
    """Splits rows of ids anew."""

    def __init__(self, before: Any, after: Any, kept: Sequence[int]) -> None:
        self._before, self._after, self._kept = before, after, kept
        self._names = TokenizerJson.of(before).tokens
        self._model = after.backend_tokenizer.model

    def split(self, row: Tensor) -> tuple[Tensor, int]:
        """The new ids of the row's text, and how many of them stand for its first token."""
        ids = new_rows(row, self._kept)
        if bool((ids >= 0).all()):
            return ids, 1
        first = list(self._alone(int(row[0])))
        return torch.tensor([*first, *self._read(row[1:].tolist())]), len(first)

    def _read(self, ids: list[int]) -> list[int]:
        """As the new tokenizer reads the text; each token for itself where the text alone does not give these ids."""
        text = self._before.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if self._before(text, add_special_tokens=False)["input_ids"] == ids:
            again: list[int] = self._after(text, add_special_tokens=False)["input_ids"]
            return again
        return [new for old in ids for new in self._alone(old)]

    def _alone(self, old: int) -> Iterator[int]:
        """The new ids of one token."""
        new = int(new_rows(torch.tensor([old]), self._kept)[0])
        if new >= 0:
            yield new
        else:
            yield from (token.id for token in self._model.tokenize(self._names[old]))
