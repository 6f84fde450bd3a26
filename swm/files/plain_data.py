"""Plain data, that is mappings, lists and what stands in them: one walk, and what of its text is prose."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

Keys = tuple[str, ...]
# The keys of what people and models say: no path, whatever it looks like.
SAID = ("prompts", "answers")


def leaves(data: Any, without: Collection[str] = (), lists: bool = True, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Whatever is no mapping and no list in `data`, with the keys that lead to it; an index in a list is one too.

    Args:
        data: Plain data.
        without: Keys below which nothing is given.
        lists: Whether lists are walked; otherwise each is a leaf. Empty lists always are.
        keys: The keys that lead to `data` itself.

    Returns:
        Pairs of keys and leaf, in the order of the data.
    """
    if isinstance(data, Mapping):
        for key, value in data.items():
            if key not in without:
                yield from leaves(value, without, lists, (*keys, str(key)))
    elif lists and isinstance(data, list | tuple) and data:
        for i, value in enumerate(data):
            yield from leaves(value, without, lists, (*keys, str(i)))
    else:
        yield keys, data


def texts(data: Any, without: Collection[str] = ()) -> Iterator[tuple[Keys, str]]:
    """Those of the leaves that are text."""
    return ((keys, value) for keys, value in leaves(data, without) if isinstance(value, str))
