"""Short names of runs: what differs between them, and nothing else."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

# At the end of a key of a grid: the value is added to the list of that key.
ADDED = ".+"
# In the name of a baseline, before the values that it replaces.
INSTEAD = " in place of "
# The name of a run in which nothing is varied.
THE_RECIPE = "the recipe"


def axes_label(axes: Mapping[str, Any]) -> str:
    """The values of the varied keys in a line; a name speaks for itself, a number needs its key."""
    parts = []
    for key, short in zip(axes, short_names(axes), strict=True):
        shown = label(axes[key])
        speaks = isinstance(axes[key], str) and shown not in ("none", "true", "false")
        parts.append(shown if speaks else f"{short} {shown}")
    return ", ".join(parts)


def short_names(keys: Iterable[str], taken: Container[str] = ()) -> list[str]:
    """The dotted keys by their last parts, as few as distinguish them from each other and from `taken`."""
    split = [key.replace(ADDED, ".added").split(".") for key in keys]
    names = []
    for parts in split:
        size = 1
        while size < len(parts) and (
            ".".join(parts[-size:]) in taken or sum(other[-size:] == parts[-size:] for other in split) > 1
        ):
            size += 1
        names.append(".".join(parts[-size:]))
    return names


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
