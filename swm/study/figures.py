"""The figures that a study file asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swm.errors import listed, quoted
from swm.plugins.construct import construct
from swm.plugins.loading import Plugins
from swm.plugins.validation import fail


@dataclass(frozen=True)
class Figure:
    """A figure: `y` (one measure or several, a line each) over `x`, apart by the values of the keys `by`.

    `x` is a key that is varied, or a measure. `bold` of the measures is drawn solid, the others dotted. Where points
    differ in a key that is neither `x` nor in `by`, what stands at one `x` is averaged.
    """

    name: str
    x: str
    y: Sequence[str]
    by: Sequence[str] = ()
    bold: str | None = None
    title: str = ""


def read_figures(entries: Any, plugins: Plugins) -> Iterator[Figure]:
    """The figures of a study file. Raises RecipeError with the path of the culprit."""
    if not isinstance(entries, list):
        fail(("figures",), f"found {quoted(entries)}; figures is a list")
    names: set[str] = set()
    for i, entry in enumerate(entries):
        path = ("figures", i)
        if not isinstance(entry, Mapping):
            fail(path, f"found {quoted(entry)}; a figure is a mapping with {listed(Figure.__dataclass_fields__)}")
        missing = [key for key in ("name", "x", "y") if not entry.get(key)]
        if missing:
            fail(path, f"a figure needs {missing[0]}")
        name = str(entry["name"])
        if name in names:
            fail((*path, "name"), f"two figures are called '{name}'")
        names.add(name)
        if not _is_file_name(name):
            what = "letters, digits, blanks and the signs . - _, no folder, at most 100"
            fail((*path, "name"), f"found {quoted(entry['name'])}; a figure's name is that of its files: {what}")
        given = {key: value for key, value in entry.items() if key != "by" or value is not None}
        lists = {key: [given[key]] for key in ("y", "by") if isinstance(given.get(key), str)}
        yield construct(Figure, {**given, **lists}, plugins.registry.build, path)


def _is_file_name(name: str) -> bool:
    """Whether files of this name lie in the folder that they are written to, on every system."""
    return re.fullmatch(r"\w(?:[\w .-]{0,98}[\w-])?", name) is not None
