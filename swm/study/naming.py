"""Short names of runs: what differs between them, and nothing else."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from swm.errors import did_you_mean

ADDED = ".+"

INSTEAD = " in place of "

BASE = "the recipe"


def told(axes: Mapping[str, Any]) -> str:
    """The values of the varied keys in a line; a name speaks for itself, a number needs its key."""
    parts = []
    for key, short in zip(axes, short_names(axes), strict=True):
        shown = label(axes[key])
        speaks = isinstance(axes[key], str) and shown not in ("none", "true", "false")
        parts.append(shown if speaks else f"{short} {shown}")
    return ", ".join(parts)


def short_names(keys: Iterable[str], taken: Container[str] = ()) -> list[str]:
    """The dotted keys by their last parts, as many as tell them apart from each other and from what is taken."""
    split = [key.replace(ADDED, ".added").split(".") for key in keys]
    found = []
    for parts in split:
        size = 1
        while size < len(parts) and (
            ".".join(parts[-size:]) in taken or sum(other[-size:] == parts[-size:] for other in split) > 1
        ):
            size += 1
        found.append(".".join(parts[-size:]))
    return found


def label(value: Any) -> str:
    """A value in a few words: a strategy by its name and parameters, a list of stages by theirs."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return " + ".join(map(label, value))
    if isinstance(value, Mapping):
        rest = ", ".join(f"{key} {label(item)}" for key, item in value.items() if key != "name")
        named = label(value["name"]) if "name" in value else ""
        return f"{named} ({rest})" if named and rest else named or rest
    return str(value)


def nearest_key(key: str, known: Sequence[str]) -> str:
    """The end of a sentence about a name that is not known."""
    return f"allowed: {', '.join(known)}.{did_you_mean(key, known)}"
