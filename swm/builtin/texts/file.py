"""Text from a file on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, final

from swm.builtin.texts.fields import text_of
from swm.interfaces.text import Purpose, TextSource
from swm.paths import is_file
from swm.text.rows import ROW_SUFFIXES, rows
from swm.text.text_file import PACKED_SUFFIXES, blocks, check_file
from swm.text.tokens import MAX_CHARACTERS

SUFFIXES = (".txt", ".raw", ".md", *ROW_SUFFIXES, *PACKED_SUFFIXES)


@final
@dataclass(frozen=True)
class FileText(TextSource):
    """A plain text file, which is one document, or a file of rows, each of which has a document in `field`.

    Rows are those of JSON (a list, or a value a line), CSV, TSV or Parquet; what the file holds decides, whatever it is
    called. Files may be packed by gzip, bzip2 or xz. A byte order mark says the encoding, which is UTF-8 without one.
    Rows whose field is null are left out and counted. Of plain text the first 20,000,000 characters are read. A bare
    path in a recipe means this source. A file gives the same text for every purpose.
    """

    name: ClassVar[str] = "file"

    path: str
    field: str = "text"

    @classmethod
    def from_value(cls, value: Any) -> dict[str, Any] | None:
        if not isinstance(value, str):
            return None
        looks_like_one = value.endswith(SUFFIXES) or value.startswith(("/", "./", "../", "~"))
        return {"path": value} if looks_like_one or is_file(value) else None

    def title(self) -> str:
        return self.path

    def check(self) -> None:
        """Read it as far as any run will, so that a mistake in a late row is told before the model is loaded."""
        check_file(self.path)
        total = 0
        for document in self.documents("calibration"):
            total += len(document)
            if total >= MAX_CHARACTERS:
                return

    def documents(self, purpose: Purpose) -> Iterable[str]:
        read = rows(self.path, columns=[self.field])
        if read is None:
            yield self._plain()
            return
        for where, row in read:
            yield text_of(where, row, self.field, f"{{name: alpaca, path: {self.path}}}")

    def _plain(self) -> str:
        """The text, with one character more than is ever read where there are more."""
        parts: list[str] = []
        total = 0
        for block in blocks(self.path):
            parts.append(block)
            total += len(block)
            if total > MAX_CHARACTERS:
                break
        return "".join(parts)[: MAX_CHARACTERS + 1]
