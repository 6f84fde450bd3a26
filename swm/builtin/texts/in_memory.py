"""Text that lies in the memory of a Python process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, final

from torch import Tensor

from swm.errors import TextError
from swm.interfaces.text import Purpose, TextSource
from swm.text.given_text import GivenText, are_splits, holds_tokens, read_given
from swm.text.token_rows import check_rows


@final
@dataclass(frozen=True)
class InMemory(TextSource):
    """What a Python program holds: a tensor of ids, strings, a data set, or batches with masks, whose padding goes.

    A recipe on the disk can only describe it: by its `sha256`, and by how many `rows` of how many `tokens`, or
    `documents` of how many `characters` there were. Such a recipe cannot be run by itself.
    """

    name: ClassVar[str] = "in-memory"
    in_memory: ClassVar[bool] = True

    sha256: str = ""
    rows: int | None = None
    tokens: int | None = None
    documents_read: int | None = None
    characters: int | None = None
    content: Any = field(default=None, compare=False, repr=False)

    @classmethod
    def from_value(cls, value: Any) -> dict[str, Any] | None:
        if holds_tokens(value) or are_splits(value):
            return {"content": value}
        plain = isinstance(value, str | bytes | list | Path | Mapping) and not hasattr(value, "column_names")
        return None if plain or not isinstance(value, Iterable) else {"content": value}

    @classmethod
    def complete(cls, values: dict[str, Any], build: Any) -> dict[str, Any]:
        """Read what was given, and describe it."""
        content = values.get("content")
        if content is None:
            return values
        read = content if isinstance(content, GivenText) else read_given(content)
        facts: dict[str, Any] = read.facts()
        if "documents" in facts:
            facts["documents_read"] = facts.pop("documents")
        return {"sha256": read.sha256, **facts, "content": read}

    def spec(self) -> dict[str, Any]:
        values = super().spec()
        del values["content"]
        return {key: value for key, value in values.items() if value is not None}

    def title(self) -> str:
        return f"in memory, sha256 {self.sha256[:12]}"

    def check(self) -> None:
        self._given()

    def check_model(self, config: Any) -> None:
        rows = self.token_rows()
        if rows is not None:
            check_rows(rows, config, self.title())

    def token_rows(self) -> Sequence[Tensor] | None:
        return self._given().rows or None

    def documents(self, purpose: Purpose) -> Iterable[str]:
        given = self._given()
        if given.rows:
            raise TextError(f"text '{self.title()}' is token ids, and words are read here; give it as strings")
        return given.documents

    def _given(self) -> GivenText:
        if not isinstance(self.content, GivenText):
            raise TextError(
                f"this text lay in the memory of a Python process (sha256 {self.sha256[:12]}), which a file can only "
                "describe; name a file, a data set or a registered text in its place, or run it in Python"
            )
        return self.content
