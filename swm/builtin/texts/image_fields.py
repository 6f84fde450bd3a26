"""The images of rows: files named by their paths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from swm.errors import TextError, nearest_file
from swm.interfaces.text import TextRow
from swm.paths import expanded, is_file
from swm.text.rows import kind_of

IMAGE = "image"


def image_of(where: str, row: Mapping[str, Any], column: str, path: str) -> Path | None:
    """The file of the image that a row names.

    Args:
        where: The place of the row, for messages.
        row: The row.
        column: The name of the field.
        path: The file that holds the row; the image lies relative to it.

    Returns:
        The file; None for a row without an image.

    Raises:
        TextError: The field holds no path of a file.
    """
    value = row.get(column)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise TextError(f"{where}: column '{column}' holds {kind_of(value)}, no path of a png or jpg")
    if "://" in value or value.startswith("data:"):
        raise TextError(
            f"{where}: column '{column}' holds the address '{value[:80]}', and images are not downloaded; save it as "
            f"png or jpg, and write its path relative to {Path(path).name}"
        )
    file = expanded(path).parent / expanded(value)
    if not is_file(file):
        raise TextError(f"{where}: column '{column}': image {file} does not exist.{nearest_file(file)}")
    return file


def check_image_rows(rows: Iterable[TextRow], path: str, column: str) -> None:
    """Raise TextError where an image is not there, or no row has one."""
    shown = sum(row.image is not None for row in rows)
    if not shown:
        raise TextError(f"{path}: no row has an image in column '{column}'; name the column that does, or leave it out")
