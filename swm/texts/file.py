"""Text from a file on this machine."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, final

from swm.errors import TextError, listed, nearest_file
from swm.interfaces.text import Purpose, TextSource

SUFFIXES = (".txt", ".raw", ".md", ".jsonl", ".json", ".gz")


@final
@dataclass(frozen=True)
class FileText(TextSource):
    """A plain text file (one document) or JSON lines (one document a line, in `field`), either of them gzipped.

    A bare path in a recipe means this source. A file gives the same text for every purpose.
    """

    name: ClassVar[str] = "file"

    path: str
    field: str = "text"

    @classmethod
    def from_value(cls, value: Any) -> dict[str, Any] | None:
        if not isinstance(value, str):
            return None
        looks_like_one = value.endswith(SUFFIXES) or value.startswith(("/", "./", "../", "~"))
        return {"path": value} if looks_like_one or Path(value).is_file() else None

    def title(self) -> str:
        return self.path

    def check(self) -> None:
        if self._path.is_dir():
            raise TextError(f"text file {self.path} is a folder")
        if not self._path.is_file():
            raise TextError(f"text file {self.path} does not exist.{nearest_file(self.path)}")

    def documents(self, purpose: Purpose) -> Iterable[str]:
        self.check()
        suffixes = [s for s in self._path.suffixes if s != ".gz"]
        try:
            with self._open() as stream:
                if suffixes[-1:] == [".jsonl"]:
                    yield from self._lines(stream)
                else:
                    yield stream.read()
        except (OSError, UnicodeDecodeError, EOFError) as error:
            raise TextError(f"text file {self.path} cannot be read: {error}") from error

    @property
    def _path(self) -> Path:
        return Path(self.path).expanduser()

    def _open(self) -> IO[str]:
        if self._path.suffix == ".gz":
            return gzip.open(self._path, "rt", encoding="utf-8")
        return self._path.open(encoding="utf-8")

    def _lines(self, stream: IO[str]) -> Iterator[str]:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise TextError(f"{self.path}:{number}: not JSON: {error}") from error
            if not isinstance(row, dict) or not isinstance(row.get(self.field), str):
                found = listed(row) if isinstance(row, dict) else type(row).__name__
                raise TextError(f"{self.path}:{number}: no text in field '{self.field}'; found: {found}")
            yield row[self.field]
