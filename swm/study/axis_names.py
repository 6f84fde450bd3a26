"""Names of axes: a varied key by any end of its dotted path that no other key shares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from swm.errors import RecipeError, unknown
from swm.study.naming import ADDED, short_names


def key_named(name: str, keys: Iterable[str], also: Sequence[str] = ()) -> str:
    """The varied key that a name means, or the name itself where it is one of `also`.

    Raises RecipeError for a name of no key, with the nearest one, and for one of several.
    """
    keys = list(keys)
    if name in keys or name in also:
        return name
    meant = [key for key in keys if name in ends(key)]
    if len(meant) > 1:
        raise RecipeError(f"'{name}' may be {' or '.join(meant)}; write {' or '.join(short_names(meant))}")
    if not meant:
        raise RecipeError(unknown("axis", name, [*dict.fromkeys(end for key in keys for end in ends(key)), *also]))
    return meant[0]


def ends(key: str) -> list[str]:
    """A dotted key and all its ends."""
    parts = key.replace(ADDED, ".added").split(".")
    return list(dict.fromkeys([key, *(".".join(parts[i:]) for i in range(len(parts)))]))
