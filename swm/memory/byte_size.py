"""Numbers of bytes as people write them."""

from __future__ import annotations

import re

from swm.errors import RecipeError, quoted

UNITS = {"": 1, "B": 1, **{f"{p}B": 1000**i for i, p in enumerate("KMGT", 1)}}
UNITS.update({f"{p}iB": 1024**i for i, p in enumerate("KMGT", 1)})
WRITTEN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_bytes(size: str | int) -> int:
    """`8GiB`, `500 MB`, or a plain number of bytes. Raises RecipeError for anything else, and for less than one byte.

    KB, MB, GB and TB are powers of 1000; KiB, MiB, GiB and TiB are powers of 1024. Upper and lower case count alike.
    """
    match = WRITTEN.fullmatch(str(size))
    units = {name.lower(): factor for name, factor in UNITS.items()}
    if match is None or match[2].lower() not in units:
        names = ", ".join(name for name in UNITS if len(name) > 1)
        raise RecipeError(f"found {quoted(size)}; a size is a number of bytes, or a number with one of {names}: 8GiB")
    number = int(float(match[1]) * units[match[2].lower()])
    if number < 1:
        raise RecipeError(f"found {quoted(size)}; a size is at least one byte")
    return number


def written_bytes(number: float) -> str:
    """A number of bytes in the largest binary unit that it fills: `7.5 GiB`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if number >= UNITS[unit]:
            return f"{number / UNITS[unit]:.1f} {unit}"
    return f"{number:.0f} B"
