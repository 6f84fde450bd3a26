"""The columns of a study's table: the varied keys, and what was measured."""

from __future__ import annotations

from collections.abc import Iterable

from swm.interfaces.executor import Row
from swm.study.measures import LABELS
from swm.study.naming import short_names

# The columns that identify a run.
FIXED = ("id", "kind", "name", "seed", "state")


def finished(rows: Iterable[Row]) -> list[Row]:
    """The rows that hold results."""
    return [row for row in rows if row["state"] == "done"]


def measured(rows: Iterable[Row]) -> list[str]:
    """The measures of any of the rows: those that every study has, then the tasks."""
    names = dict.fromkeys(name for row in finished(rows) for name in [*row["measures"], "seconds"])
    first = [name for name in LABELS if name in names]
    return [*first, *(name for name in names if name not in LABELS)]


def axis_names(rows: Iterable[Row]) -> dict[str, str]:
    """The keys that the study varies now, with the short names of their columns."""
    inside = [row for row in rows if not row.get("outside")]
    keys = list(dict.fromkeys(key for row in inside for key in row["axes"]))
    return dict(zip(keys, short_names(keys, {*LABELS, *FIXED}), strict=True))
