"""A file of rows: JSON, JSON lines, CSV, TSV or Parquet, read row by row."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from swm.errors import TextError
from swm.text.json_rows import Rows, holds_objects, is_array, line_rows, list_rows
from swm.text.text_file import PARQUET, blocks, check_file, inner_suffix, lines, readable, unpacked

LINE_SUFFIXES = (".jsonl", ".ndjson")
JSON_SUFFIXES = (".json", *LINE_SUFFIXES)
DELIMITERS = {".csv": ",", ".tsv": "\t"}
ROW_SUFFIXES = (*JSON_SUFFIXES, *DELIMITERS, ".parquet")


def rows(
    path: str, what: str = "text file", *, columns: Sequence[str] | None = None, plain: bool = True
) -> Rows | None:
    """Read a file of rows.

    What the file holds decides what it is, and its name where that may be several things.

    Args:
        path: The file.
        what: What messages call it.
        columns: The fields that are needed. Of a Parquet file, which is stored by column, only these are read.
        plain: Whether the file may hold plain text instead.

    Returns:
        The rows, each with its place; None for a file of plain text.

    Raises:
        TextError: For a file that cannot be read, or for a row that is none.
    """
    suffix = inner_suffix(path)
    with unpacked(path, what) as stream, readable(path, what):
        is_parquet = stream.read(len(PARQUET)) == PARQUET
    if is_parquet:
        return _parquet(path, what, columns)
    if suffix == ".parquet":
        raise TextError(f"{what} {path} cannot be read: it is not Parquet, though its name says so")
    text = blocks(path, what)
    if suffix in DELIMITERS:
        return _table(text, path, DELIMITERS[suffix], columns)
    head = next(text, "")
    while not head.strip() and (block := next(text, None)) is not None:
        head += block
    if plain and suffix not in JSON_SUFFIXES and not holds_objects(head):
        return None
    whole = itertools.chain([head], text)
    return list_rows(whole, path) if is_array(head, suffix in LINE_SUFFIXES) else line_rows(whole, path)


def _table(text: Iterable[str], path: str, delimiter: str, columns: Sequence[str] | None) -> Rows:
    # The default is 128 KiB, which a document may well have.
    """The rows of delimited text as mappings, with the places of their ends. Raises TextError.

    Args:
        text: The file in blocks.
        path: The file, for places and messages.
        delimiter: What stands between two cells.
        columns: The fields that are needed, whose names must be unique.
    """
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(lines(text), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        for name in columns or ():
            if (count := header.count(name)) > 1:
                raise TextError(f"{path}:1: {count} columns are called '{name}'; rename all but one of them")
        for cells in reader:
            if cells and len(cells) != len(header):
                raise TextError(f"{path}:{reader.line_num}: {len(cells)} columns; the header has {len(header)}")
            if cells:
                yield f"{path}:{reader.line_num}", dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise TextError(f"{path}:{reader.line_num}: no row of the table: {error}") from error


def _parquet(path: str, what: str, columns: Sequence[str] | None) -> Rows:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with readable(path, what), ParquetFile(check_file(path, what)) as file:
            known: Sequence[str] = file.schema_arrow.names
            # A column that is not there is told with those that are, by the row that lacks it.
            kept = list(columns or ()) if set(columns or ()) <= set(known) else None
            number = 0
            for batch in file.iter_batches(batch_size=256, columns=kept or None):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
    except ArrowException as error:
        raise TextError(f"{what} {path} cannot be read: {error}") from error


def kind_of(value: Any) -> str:
    """What a value that should be text is, in the words of JSON."""
    if isinstance(value, Mapping):
        return "an object"
    names = {type(None): "null", bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return names.get(type(value), type(value).__name__)
