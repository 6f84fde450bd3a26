"""Text as Python programs hold it: tensors of ids, documents, data sets, batches with masks. Padding is taken out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from swm.errors import TextError, listed, quoted
from swm.text.tokens import MAX_CHARACTERS

IDS, MASK, TEXT = "input_ids", "attention_mask", "text"
# More tokens are not read, as of text in files.
MAX_TOKENS = MAX_CHARACTERS
ALLOWED = (
    "allowed: a tensor of token ids [samples, tokens], strings, a data set with a column input_ids or text, or batches "
    "with input_ids and attention_mask"
)


@dataclass(frozen=True, eq=False)
class GivenText:
    """Documents, or rows of token ids (int64) without padding; never both."""

    documents: tuple[str, ...] = ()
    rows: tuple[Tensor, ...] = ()

    @property
    def sha256(self) -> str:
        """A hash of all of it, and of where each document or row ends."""
        digest = hashlib.sha256()
        for document in self.documents:
            written = document.encode("utf-8", "surrogatepass")
            digest.update(f"text {len(written)} ".encode() + written)
        for row in self.rows:
            digest.update(f"ids {len(row)} ".encode() + row.numpy().tobytes())
        return digest.hexdigest()

    def facts(self) -> dict[str, int]:
        """How much there is of it."""
        if self.rows:
            return {"rows": len(self.rows), "tokens": sum(map(len, self.rows))}
        return {"documents": len(self.documents), "characters": sum(map(len, self.documents))}


def is_keyed(value: Any) -> bool:
    """Whether the value is a mapping of a recipe's keys: no batch, no data set, no splits of one."""
    return isinstance(value, Mapping) and not holds_tokens(value) and not are_splits(value)


def holds_tokens(value: Any) -> bool:
    """Whether the value is a tensor of ids, a batch, or a list that begins with ids or with one of those."""
    if isinstance(value, list | tuple) and value:
        first = value[0]
        return (isinstance(first, int) and not isinstance(first, bool)) or holds_tokens(first)
    return _is_tensor(value) or (isinstance(value, Mapping) and IDS in value)


def read_given(value: Any) -> GivenText:
    """All of a text that lies in memory, up to 20,000,000 characters or tokens.

    Raises TextError, with the number of the item, for what is no text.
    """
    reader = _Reader()
    for number, item in enumerate(_items(value), 1):
        reader.add(item, number)
        if reader.full:
            break
    if reader.documents and reader.rows:
        raise TextError(f"the text holds strings and token ids; give one of them. {ALLOWED}")
    if not reader.documents and not reader.rows:
        used = "; what gives its items once was read before: give a list" if isinstance(value, Iterator) else ""
        raise TextError(f"the text is empty{used}; {ALLOWED}")
    return GivenText(tuple(reader.documents), tuple(reader.rows))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (hasattr(value, "__array__") and hasattr(value, "ndim"))


def are_splits(value: Any) -> bool:
    """Whether the value is what `datasets` gives where no split was asked for; a mapping of keys is none."""
    return isinstance(value, Mapping) and hasattr(value, "column_names")


def _items(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping) and value and all(hasattr(part, "column_names") for part in value.values()):
        raise TextError(f"found splits of a data set; choose one of them: {listed(map(str, value))}")
    if _is_tensor(value) or isinstance(value, Mapping):
        return iter([value])
    if isinstance(value, list | tuple) and value and isinstance(value[0], int):
        # One row of ids.
        return iter([value])
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        raise TextError(f"found {quoted(value)}; {ALLOWED}")
    return iter(value)


@dataclass
class _Reader:
    """Adds up documents and rows."""

    documents: list[str] = field(default_factory=list)
    rows: list[Tensor] = field(default_factory=list)
    read: int = 0
    shape: torch.Size | None = None
    """That of the tensor before, where it had no mask and could not be one."""

    @property
    def full(self) -> bool:
        return self.read >= MAX_TOKENS

    def add(self, item: Any, number: int) -> None:
        if isinstance(item, str):
            self.documents.append(item)
            self.read += len(item)
        elif _is_tensor(item):
            self._add_ids(item, None, number)
        elif isinstance(item, Mapping):
            self._add_mapping(item, number)
        elif isinstance(item, list | tuple):
            self._add_list(item, number)
        elif item is not None:
            raise TextError(f"item {number} of the text: found {quoted(item)}; {ALLOWED}")

    def _add_mapping(self, item: Mapping[str, Any], number: int) -> None:
        seen = [name for name in item if str(name).startswith(("pixel_values", "image_"))]
        if seen:
            raise TextError(
                f"item {number} of the text holds {seen[0]}; images are read from files alone: "
                "text: {name: file, path: ..., image: ...}"
            )
        if IDS in item:
            self._add_ids(item[IDS], item.get(MASK), number)
        elif TEXT in item:
            self.add(item[TEXT], number)
        else:
            raise TextError(
                f"item {number} of the text has the columns {listed(map(str, item))}, neither {IDS} nor {TEXT}; give "
                "one column, as in dataset['story'], or rename it: dataset.rename_column('story', 'text')"
            )

    def _add_list(self, items: list[Any] | tuple[Any, ...], number: int) -> None:
        if all(isinstance(item, int) and not isinstance(item, bool) for item in items):
            self._add_ids(items, None, number)
            return
        tensors = len(items) > 1 and all(map(_is_tensor, items))
        # A loader makes lists of the tuples of a data set; a list of rows is a batch that was not made one tensor.
        if tensors and (isinstance(items, tuple) or items[0].ndim > 1):
            raise TextError(
                f"item {number} of the text is a {type(items).__name__} of {len(items)} tensors, which does not say "
                f"what they are; give a mapping: {{'{IDS}': ..., '{MASK}': ...}}"
            )
        for item in items:
            self.add(item, number)

    def _add_ids(self, ids: Any, mask: Any, number: int) -> None:
        """Add the ids `[tokens]` or `[rows, tokens]` whose mask is not 0.

        Args:
            ids: A tensor, or lists of whole numbers, which may be of several lengths.
            mask: Of the same shape; None where all are text.
            number: The number of the item, for messages.
        """
        if isinstance(ids, list | tuple) and ids and isinstance(ids[0], list | tuple):
            masks = [None] * len(ids) if mask is None else list(mask)
            if len(masks) != len(ids):
                raise TextError(f"item {number} of the text: {len(ids)} rows of {IDS}, {len(masks)} of {MASK}")
            for row, of_row in zip(ids, masks, strict=True):
                self._add_ids(row, of_row, number)
            return
        table = _whole_numbers(ids, IDS, number)
        if not table.numel():
            return
        if mask is None and _is_tensor(ids):
            self._check_no_mask(table, number)
        if table.dim() not in (1, 2):
            raise TextError(f"item {number} of the text: {IDS} are {list(table.shape)}; allowed: [rows, tokens]")
        stays = torch.ones_like(table) if mask is None else _whole_numbers(mask, MASK, number)
        if stays.shape != table.shape:
            raise TextError(
                f"item {number} of the text: {MASK} is {list(stays.shape)}, {IDS} are {list(table.shape)}; allowed: a "
                "number a token"
            )
        for row, of_row in zip(table.view(-1, table.shape[-1]), stays.view(-1, table.shape[-1]), strict=True):
            tokens = row[of_row != 0]
            if len(tokens) and int(tokens.min()) < 0:
                raise TextError(f"item {number} of the text: found the token id {int(tokens.min())}; ids are 0 or more")
            if len(tokens):
                self.rows.append(tokens)
                self.read += len(tokens)

    def _check_no_mask(self, table: Tensor, number: int) -> None:
        """Raise TextError for a mask in the place of ids: of the shape of the ids before it, of 0 and 1 alone."""
        shape, two = self.shape, int(table.min()) >= 0 and int(table.max()) <= 1
        self.shape = None if two else table.shape
        if two and table.shape == shape:
            raise TextError(
                f"item {number} of the text holds the ids 0 and 1 alone and has the shape of what stands before it, so "
                f"it is a mask; give a mapping: {{'{IDS}': ..., '{MASK}': ...}}"
            )


def _whole_numbers(value: Any, name: str, number: int) -> Tensor:
    try:
        # Nothing is no number at all; torch takes it for fractions.
        made = torch.as_tensor(value, dtype=torch.int64 if isinstance(value, list | tuple) and not value else None)
    except (TypeError, ValueError, RuntimeError):
        raise TextError(f"item {number} of the text: {name}: found {quoted(value)}; allowed: whole numbers") from None
    if made.is_floating_point() or made.is_complex() or (made.dtype is torch.bool and name == IDS):
        raise TextError(f"item {number} of the text: {name}: found {quoted(made)}; allowed: whole numbers")
    return made.detach().to("cpu", torch.int64, copy=True)
