"""Nested settings and results as one flat mapping, for trackers and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from swm.files.plain_data import leaves
from swm.interfaces.tracker import Flat

# What says how a number was made and how it is shown.
UNLOGGED = {"protocol", "scale"}


def flat(values: Mapping[str, Any]) -> Flat:
    """Nested settings as `dotted.key: value`; None is left out, empty lists are `[]`."""
    values_by_key: dict[str, str | int | float | bool] = {}
    for path, value in leaves(values):
        if value is not None:
            values_by_key[".".join(path)] = value if isinstance(value, str | int | float) else str(value)
    return values_by_key


def rows(values: Mapping[str, Any]) -> dict[str, Any]:
    """As `flat`, for people: a list is one row of its items."""
    rows_by_key: dict[str, Any] = {}
    for path, value in leaves(values, lists=False):
        if value is not None:
            joined = isinstance(value, Sequence) and not isinstance(value, str)
            rows_by_key[".".join(path)] = ", ".join(map(str, value)) or "none" if joined else value
    return rows_by_key


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of nested results as `group/metric`, without lists, protocols and scales.

    `x/value` and `x/x` are called `x`.
    """
    numbers_by_key: dict[str, float] = {}
    for path, value in leaves(values, lists=False):
        if isinstance(value, int | float) and not isinstance(value, bool) and not UNLOGGED & {*path}:
            once = [part for i, part in enumerate(path) if i == 0 or part != path[i - 1]]
            numbers_by_key["/".join(once).removesuffix("/value")] = value
    return numbers_by_key
