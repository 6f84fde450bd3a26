"""Values in one line of text: what a model or a tensor holds is never part of it."""

from __future__ import annotations

import dataclasses
import reprlib
from typing import Any

MOST = 100


class _Short(reprlib.Repr):
    """As Python writes values, but tensors by their shape, and objects that would fill pages by their type."""

    def __init__(self, most: int) -> None:
        super().__init__()
        # What is longer is cut by `quoted`, which shows the end too.
        self.maxstring = self.maxlong = self.maxother = 10**6
        self.maxtuple = self.maxlist = self.maxdict = self.maxset = self.maxfrozenset = self.maxdeque = most

    def repr_instance(self, value: Any, level: int) -> str:
        name = type(value).__name__
        if isinstance(value, type):
            return repr(value)
        shape = getattr(value, "shape", None)
        if shape is not None and (len(shape) or hasattr(value, "requires_grad")):
            kind = getattr(value, "dtype", None)
            size = "x".join(map(str, shape)) or "one number"
            return f"<{name} {size}{'' if kind is None else f' {kind}'}>"
        if hasattr(value, "named_modules"):
            return f"<{name}>"
        if dataclasses.is_dataclass(value):
            return self._fields(value, level)
        try:
            written = repr(value)
        except Exception as error:  # a stranger's method
            return f"<{name}, whose repr raises {type(error).__name__}>"
        plain = "\n" not in written and " at 0x" not in written and len(written) <= MOST
        return written if plain else f"<{name}>"

    def _fields(self, value: Any, level: int) -> str:
        if level <= 0:
            return f"{type(value).__name__}(...)"
        shown = [f.name for f in dataclasses.fields(value) if f.repr and not f.name.startswith("_")]
        parts = [f"{name}={self.repr1(getattr(value, name, None), level - 1)}" for name in shown]
        return f"{type(value).__name__}({', '.join(parts)})"


def quoted(value: object, most: int = MOST) -> str:
    """The value as Python writes it, for a message: what is long with its middle left out, tensors by their shape."""
    try:
        written = _Short(most).repr(value)
    except ValueError:  # a number of more digits than Python writes
        return f"a {type(value).__name__} too long to show"
    return written if len(written) <= most else f"{written[: most // 2]}...{written[-most // 4 :]}"


def short_repr(self: Any) -> str:
    """For `__repr__` of a dataclass: its fields, each short, without what a model or a tensor holds."""
    parts = [
        f"{field.name}={quoted(getattr(self, field.name, None), 60)}"
        for field in dataclasses.fields(self)
        if field.repr and not field.name.startswith("_")
    ]
    return f"{type(self).__name__}({', '.join(parts)})"
