"""What all stages of a row took, with those that an earlier row of the same run had done already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TUNED_NAME = ", then tuned distillation"
AFTER = (TUNED_NAME, ", then LoRA", ", then distillation", ", then repair")
"""A row of such a name begins with all that the row without it made, which then comes from the cache."""


def begun_by(row: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The row whose stages a row repeats and goes on from; the row itself where there is none.

    Args:
        row: The row.
        rows: All rows by key.
    """
    name, _, size = row["key"].rpartition(" | ")
    for ending in AFTER:
        if name.endswith(ending):
            return rows.get(f"{name.removesuffix(ending)} | {size}", row)
    return row


def whole_seconds(row: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The seconds of every part of the row's run, as long as they are without the cache.

    Args:
        row: The row.
        rows: All rows by key.
    """
    spent = dict(row["seconds"])
    for part, value in begun_by(row, rows).get("seconds", {}).items():
        # Where the earlier row has other stages at these places, they are not this row's.
        if part in spent:
            spent[part] = max(value, spent[part])
    return spent
