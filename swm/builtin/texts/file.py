"""Text from a file on this machine."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

from swm.builtin.texts.chat_rows import chat_field, conversations_of, template_text
from swm.builtin.texts.chat_settings import check_settings, without_defaults
from swm.builtin.texts.fields import text_of
from swm.builtin.texts.image_fields import IMAGE, check_image_rows, image_of
from swm.errors import TextError
from swm.interfaces.conversation import Conversations, Predicted
from swm.interfaces.text import NO_TEXT, Purpose, TextRow, TextSource
from swm.paths import is_file, is_folder
from swm.text.mixed_samples import first_rows
from swm.text.rows import ROW_SUFFIXES, rows
from swm.text.text_file import PACKED_SUFFIXES, blocks, check_file, inner_suffix
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

    `image` names the field of rows that holds the path of an image (png or jpg), relative to the file; rows without one
    are text. Calibration reads images for models of images and text.

    Rows of conversations (`messages` of role and content, or `conversations` of from and value, or what `field` names)
    are written by the model's own chat template, by the one in the file `template`, or as `template: plain`. With
    `predicted: assistant`, training predicts only what the assistant says.
    """

    name: ClassVar[str] = "file"

    path: str
    field: str = "text"
    image: str | None = None
    template: str | None = None
    predicted: Predicted = "all"

    def spec(self) -> dict[str, Any]:
        return without_defaults(super().spec())

    @classmethod
    def from_value(cls, value: Any) -> dict[str, Any] | None:
        if not isinstance(value, str):
            return None
        looks_like_one = value.endswith(SUFFIXES) or value.startswith(("/", "./", "../", "~"))
        # Of a folder, `check` says that it is one.
        return {"path": value} if looks_like_one or is_file(value) or is_folder(value) else None

    def title(self) -> str:
        return self.path

    def check(self) -> None:
        """Read it as far as any run will, so that a mistake in a late row is told before the model is loaded."""
        check_file(self.path)
        check_settings(self.template, self.predicted, self.path, self._is_chat())
        total = 0
        for document in self.documents("calibration"):
            total += len(document)
            if total >= MAX_CHARACTERS:
                break
        if self.image is not None:
            check_image_rows(first_rows(self._image_rows(self.image)), self.path, self.image)

    def documents(self, purpose: Purpose) -> Iterable[str]:
        read = rows(self.path, columns=[self.field])
        if read is None:
            yield self._plain()
            return
        if self._is_chat():
            for one in conversations_of(read, self.field):
                yield NO_TEXT if one is None else one.plain()
            return
        for where, row in read:
            yield text_of(where, row, self.field, f"{{name: alpaca, path: {self.path}}}")

    def conversations(self) -> Conversations | None:
        if not self._is_chat():
            return None
        read = rows(self.path, columns=[self.field]) or ()
        return Conversations(conversations_of(read, self.field), template_text(self.template), self.predicted)

    def _is_chat(self) -> bool:
        """Whether the first row holds a conversation."""
        read = rows(self.path, columns=[self.field]) if self.image is None else None
        return any(chat_field(row, self.field) for _, row in itertools.islice(read or (), 1))

    def image_rows(self) -> Iterable[TextRow] | None:
        return None if self.image is None else self._image_rows(self.image)

    def text_alone(self) -> TextSource:
        return replace(self, image=None)

    def unread(self) -> str:
        read = rows(self.path, columns=[self.field, IMAGE]) if self.image is None and self.field != IMAGE else None
        total = 0
        for where, row in read or ():
            if isinstance(row, Mapping) and row.get(IMAGE):
                return (
                    f"{where}: column '{IMAGE}' of the calibration text is not read; image: {IMAGE} beside its path "
                    "has a model of images and text see it"
                )
            total += len(str(row.get(self.field) or "")) if isinstance(row, Mapping) else 0
            # Every row of a table has the columns of the first.
            lacking = inner_suffix(self.path) == ".parquet" and IMAGE not in row
            if total >= MAX_CHARACTERS or lacking:
                break
        return ""

    def _image_rows(self, column: str) -> Iterator[TextRow]:
        read = rows(self.path, columns=[self.field, column])
        if read is None:
            raise TextError(f"{self.path} is plain text, which has no column '{column}'; leave image out")
        for where, row in read:
            text = text_of(where, row, self.field, f"{{name: alpaca, path: {self.path}}}")
            yield TextRow(str(text), image_of(where, row, column, self.path), where)

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
