"""Facts of a stage that are a number a layer: they are drawn as bars, for nobody reads thirty lines."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Fewer numbers are read more easily than bars.
FEWEST = 4
LAYER = "layer"
# The layer of a key such as `7` or `attention 7`.
NUMBERED = re.compile(r"(?:(.*\S)\s+)?(\d+)")


@dataclass(frozen=True)
class Series:
    """Numbers by the layer, or by whatever is counted, that they belong to."""

    title: str
    values: Mapping[int, float]
    by_position: bool = False
    """Whether the numbers came as a list, so that they are only known by their position."""


def split_series(facts: Mapping[str, Any]) -> tuple[list[Series], dict[str, Any]]:
    """The series in the facts, and the facts without them.

    A mapping whose keys all end in a number is one series for each of what stands before the number. A list of mappings
    that each name a `layer` is one for each of their numbers, and for each of what else they name. A list of numbers of
    which some are no whole ones is one by position.
    """
    series: list[Series] = []
    rest: dict[str, Any] = {}
    for key, value in facts.items():
        own = list(_series(key.replace("_", " "), value))
        if own:
            series += own
        elif isinstance(value, Mapping) and value:
            inner, left = split_series({f"{key}.{name}": item for name, item in value.items()})
            series += inner
            rest |= left if inner else {key: value}
        else:
            rest[key] = value
    return series, rest


def _series(title: str, value: Any) -> Iterator[Series]:
    if isinstance(value, Mapping):
        keys = [NUMBERED.fullmatch(str(key)) for key in value]
        if len(value) < FEWEST or not all(keys) or not all(map(_is_number, value.values())):
            return
        groups: dict[str, dict[int, float]] = {}
        for key, number in zip(filter(None, keys), value.values(), strict=True):
            groups.setdefault(key[1] or "", {})[int(key[2])] = number
        for name, values in groups.items():
            yield Series(f"{title}: {name}" if name else title, values)
    elif isinstance(value, list | tuple) and len(value) >= FEWEST and all(map(_has_layer, value)):
        by_name: dict[str, dict[int, float]] = {}
        for entry in value:
            name = ", ".join(str(item) for item in entry.values() if isinstance(item, str))
            for key, number in entry.items():
                if key != LAYER and _is_number(number):
                    shown = ", ".join(filter(None, [name, key.replace("_", " ")]))
                    by_name.setdefault(shown, {})[entry[LAYER]] = number
        for name, values in by_name.items():
            yield Series(f"{title}: {name}", values)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        numbers = len(value) >= FEWEST and all(map(_is_number, value))
        if numbers and any(not float(number).is_integer() for number in value):
            yield Series(title, dict(enumerate(value)), by_position=True)


def _has_layer(entry: Any) -> bool:
    """Whether an entry names a layer and has nothing but numbers and words besides."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get(LAYER), int):
        return False
    return all(value is None or isinstance(value, str | int | float) for value in entry.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
