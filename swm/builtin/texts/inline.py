"""Text written into the recipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

from swm.errors import TextError
from swm.interfaces.text import Purpose, TextSource
from swm.text.given_text import holds_tokens


@final
@dataclass(frozen=True)
class InlineText(TextSource):
    """A list of documents. A bare list in a recipe means this source."""

    name: ClassVar[str] = "list"

    texts: Sequence[str] = ()

    @classmethod
    def from_value(cls, value: Any) -> dict[str, Any] | None:
        return {"texts": value} if isinstance(value, list) and not holds_tokens(value) else None

    def check(self) -> None:
        if not any(self.texts):
            raise TextError("the list of texts is empty; write at least one document into it")

    def documents(self, purpose: Purpose) -> Iterable[str]:
        return self.texts
