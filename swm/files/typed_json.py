"""Reading what an earlier run or somebody else wrote: typed, and one error for what is not as it should be.

What a type does not name is left alone: files of other versions of swm hold more.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from swm.errors import SwmError, nearest_file, quoted, reason
from swm.files import json_text as jsontext


class Record(BaseModel):
    """Base of what is read from files."""

    model_config = ConfigDict(extra="ignore", strict=True)


R = TypeVar("R", bound=Record)


def read_json(file: Path, what: str, error: type[SwmError]) -> Any:
    """What a JSON file holds, with numbers that JSON has no form for. Raises `error` that names the file."""
    try:
        return jsontext.restored(json.loads(file.read_text(encoding="utf-8")))
    except OSError as failure:
        raise error(f"{what} {file} cannot be read: {failure.strerror or failure}.{nearest_file(file)}") from None
    except (ValueError, RecursionError) as failure:
        raise error(f"{what} {file} cannot be read: it is no JSON ({failure})") from None


def check(kind: type[R], data: Any, where: str, error: type[SwmError]) -> R:
    """The record in plain data.

    Args:
        kind: The record's class.
        data: Plain data, as `read_json` gives it.
        where: The file, and the line in it if there are several records.
        error: The class of the error.

    Returns:
        The record.

    Raises:
        SwmError: An `error` that says where, what was found and what is allowed.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as failure:
        first = failure.errors()[0]
        path = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise error(f"{where}: {path} is missing") from None
        place = f"{where}: {path}" if path else where
        raise error(f"{place}: found {quoted(first['input'])}; {reason(first)}") from None
