"""JSON as rows: a list, of which one value is in memory at a time, or a value a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from swm.errors import TextError
from swm.text.text_file import lines

Rows = Iterator[tuple[str, Any]]
"""Rows with the place of each, `file:line` or `file: row number`."""
# A mistake this near to the end of what was read may only be the end.
NEAR = 16


def holds_objects(head: str) -> bool:
    """Whether a text of any name begins with a JSON object on a line of its own, or with a list of objects."""
    first = head.lstrip()
    if first.startswith("["):
        return first[1:].lstrip().startswith("{")
    line, _, rest = first.partition("\n")
    following = rest.lstrip()
    return _is_object(line) and (not following or following.startswith("{"))


def _is_object(line: str) -> bool:
    try:
        return line.startswith("{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def is_array(head: str, named_lines: bool) -> bool:
    """Whether JSON is one list. In a file of JSON lines, a first line with a list of anything but rows is a bad row."""
    first = head.lstrip()
    if not first.startswith("["):
        return False
    try:
        rows = json.loads(first.partition("\n")[0])
    except (ValueError, RecursionError):
        return True
    return not named_lines or any(isinstance(row, dict) for row in rows)


def line_rows(text: Iterable[str], path: str) -> Rows:
    """The values of JSON lines. Raises TextError with the line that is none."""
    for number, line in enumerate(lines(text), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _not_json(f"{path}:{number}", error) from error
        yield f"{path}:{number}", row


def list_rows(text: Iterator[str], path: str) -> Rows:
    """The values of one JSON list. Raises TextError with the line where it is none."""
    reader = _ArrayReader(text, path)
    for number, row in enumerate(reader.values(), 1):
        yield f"{path}: row {number}", row


@dataclass
class _ArrayReader:
    """The values of one JSON list, of which no more is in memory than the value that is read."""

    text: Iterator[str]
    path: str
    ahead: str = ""
    line: int = 1
    column: int = 1

    def values(self) -> Iterator[Any]:
        self._expect("[")
        if self._next() == "]":
            self._drop(1)
        else:
            while True:
                self._next()
                yield self._value()
                if self._expect(",]") == "]":
                    break
        if self._next():
            self._fail("Extra data", 0)

    def _value(self) -> Any:
        decoder = json.JSONDecoder()
        while True:
            try:
                value, end = decoder.raw_decode(self.ahead)
            except json.JSONDecodeError as error:
                may_go_on = error.pos + NEAR >= len(self.ahead) or error.msg.startswith("Unterminated string")
                if not (may_go_on and self._read(len(self.ahead))):
                    self._fail(error.msg, error.pos)
            except (ValueError, RecursionError) as error:
                raise _not_json(f"{self.path}:{self.line}", error) from error
            else:
                # A number may go on in the next block.
                if end < len(self.ahead) or not self._read(1):
                    self._drop(end)
                    return value

    def _expect(self, allowed: str) -> str:
        character = self._next()
        if not character or character not in allowed:
            self._fail("Expecting ',' delimiter" if "," in allowed else f"Expecting '{allowed}'", 0)
        self._drop(1)
        return character

    def _next(self) -> str:
        """The next character that is no space, which stays; an empty string at the end."""
        while True:
            bare = self.ahead.lstrip(" \t\n\r")
            self._drop(len(self.ahead) - len(bare))
            if self.ahead or not self._read(1):
                return self.ahead[:1]

    def _read(self, characters: int) -> bool:
        """Read at least so many characters more; False where there are none."""
        blocks: list[str] = []
        while sum(map(len, blocks)) < characters and (block := next(self.text, None)) is not None:
            blocks.append(block)
        self.ahead += "".join(blocks)
        return bool(blocks)

    def _drop(self, count: int) -> None:
        self.line, self.column = self._place(count)
        self.ahead = self.ahead[count:]

    def _place(self, position: int) -> tuple[int, int]:
        newlines = self.ahead.count("\n", 0, position)
        if not newlines:
            return self.line, self.column + position
        return self.line + newlines, position - self.ahead.rindex("\n", 0, position)

    def _fail(self, message: str, position: int) -> NoReturn:
        line, column = self._place(position)
        raise TextError(f"{self.path}:{line}: not JSON: {message}, column {column}")


def _not_json(where: str, error: ValueError | RecursionError) -> TextError:
    if isinstance(error, json.JSONDecodeError):
        return TextError(f"{where}: not JSON: {error.msg}, column {error.colno}")
    return TextError(f"{where}: not JSON that can be read: {error}")
