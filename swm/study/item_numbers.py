"""What was measured of a model item by item, as one number an item of which more is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from swm.interfaces.executor import Row
from swm.study.measures import LABELS, MEAN, scale_of


@dataclass(frozen=True)
class Items:
    """One number an item, more is better.

    `hits` are items that are met or missed. `logarithm` says that the measure is the exponential of their mean: they
    are nats a token with a minus.
    """

    numbers: Sequence[float]
    hits: bool = False
    logarithm: bool = False


def items_of_runs(rows: Sequence[Row], measure: str) -> Items | None:
    """The items of one point, averaged over its seeds; None where they are not known."""
    each = [_items(row, measure) for row in rows]
    known = [items for items in each if items is not None]
    if len(known) < len(each) or len({len(items.numbers) for items in known}) != 1:
        return None
    numbers = [fmean(values) for values in zip(*(items.numbers for items in known), strict=True)]
    return Items(numbers, known[0].hits and len(known) == 1, known[0].logarithm)


def parts_of(measure: str, rows: Sequence[Row]) -> list[str]:
    """The measures whose items a measure consists of: itself, or of a mean over tasks those tasks."""
    if measure != MEAN:
        return [measure]
    return [name for name in rows[0]["measures"] if name not in LABELS and scale_of(name, rows).averaged]


def _items(row: Row, measure: str) -> Items | None:
    items: Any = (row.get("items") or {}).get(measure)
    if not items:
        return None
    scale = scale_of(measure, [row])
    sign = -1.0 if scale.less_is_better else 1.0
    if isinstance(items, str):
        return Items([sign * scale.factor * int(digit) for digit in items], hits=True)
    protocol = (row.get("protocols") or {}).get(measure) or {}
    if {"scored_tokens", "windows"} <= protocol.keys():
        tokens = protocol["scored_tokens"] / protocol["windows"]
        return Items([-nats / tokens for nats in items], logarithm=True)
    return Items([sign * scale.factor * number for number in items])
