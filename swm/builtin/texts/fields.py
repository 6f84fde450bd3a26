"""The text of a row, for the sources that read rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swm.errors import TextError, did_you_mean, listed
from swm.interfaces.text import NO_TEXT
from swm.text.rows import kind_of

INSTRUCTION_FIELDS = ("instruction", "output")


def text_of(where: str, row: Any, field: str, instructions: str) -> str:
    """The text in a field of a row.

    Args:
        where: The place of the row, for messages.
        row: The row.
        field: The name of the field.
        instructions: The source that reads rows of instructions, for messages.

    Returns:
        The text, or `NO_TEXT` for null.

    Raises:
        TextError: For everything else, with the fields there are.
    """
    if not isinstance(row, Mapping):
        raise TextError(f"{where}: no text in field '{field}'; found: {type(row).__name__}")
    if field not in row:
        hint = did_you_mean(field, row)
        if set(INSTRUCTION_FIELDS) <= row.keys():
            hint = f". These are instructions with responses: {instructions} reads them"
        raise TextError(f"{where}: no text in field '{field}'; found: {listed(map(str, row))}{hint}")
    text = row[field]
    if text is None:
        return NO_TEXT
    if not isinstance(text, str):
        raise TextError(f"{where}: field '{field}' holds {kind_of(text)}, no text")
    return text
