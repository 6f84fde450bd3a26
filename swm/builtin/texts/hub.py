"""Text from a data set on the Hugging Face hub."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, final

from swm.builtin.texts.chat_rows import chat_field, conversations_of, template_text
from swm.builtin.texts.chat_settings import check_settings, without_defaults
from swm.builtin.texts.fields import text_of
from swm.errors import TextError
from swm.interfaces.conversation import Conversations, Predicted
from swm.interfaces.text import NO_TEXT, Purpose, TextSource


@final
@dataclass(frozen=True)
class HubText(TextSource):
    """A data set by its hub id, streamed in its own order. A bare `owner/name` in a recipe means this source.

    Rows whose `field` is null are left out and counted. Conversations, `template` and `predicted` are as in the source
    `file`.
    """

    name: ClassVar[str] = "hub"

    dataset: str
    config: str | None = None
    split: str = "train"
    field: str = "text"
    template: str | None = None
    predicted: Predicted = "all"

    def spec(self) -> dict[str, Any]:
        return without_defaults(super().spec())

    @classmethod
    def from_value(cls, value: Any) -> dict[str, Any] | None:
        is_id = isinstance(value, str) and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", value)
        return {"dataset": value} if is_id else None

    def title(self) -> str:
        return self.dataset

    def check(self) -> None:
        template_text(self.template)

    def documents(self, purpose: Purpose) -> Iterable[str]:
        rows, is_chat = self._begun()
        if is_chat:
            yield from (NO_TEXT if one is None else one.plain() for one in conversations_of(rows, self.field))
        for where, row in rows:
            yield text_of(where, row, self.field, f"{{name: alpaca, dataset: {self.dataset}}}")

    def conversations(self) -> Conversations | None:
        rows, is_chat = self._begun()
        if not is_chat:
            return None
        return Conversations(conversations_of(rows, self.field), template_text(self.template), self.predicted)

    def _begun(self) -> tuple[Iterator[tuple[str, Any]], bool]:
        """The rows, and whether the first of them holds a conversation. Raises TextError for settings of others."""
        rows = self._rows()
        first = list(itertools.islice(rows, 1))
        is_chat = any(chat_field(row, self.field) for _, row in first)
        check_settings(self.template, self.predicted, self.dataset, is_chat)
        return itertools.chain(first, rows), is_chat

    def _rows(self) -> Iterator[tuple[str, Any]]:
        import datasets

        try:
            rows = datasets.load_dataset(self.dataset, self.config, split=self.split, streaming=True)
            for number, row in enumerate(rows, 1):
                yield f"data set {self.dataset}: row {number}", row
        except TextError:
            raise
        except Exception as error:  # every layer below has errors of its own for "not reachable"
            raise TextError(
                f"data set {self.dataset} cannot be read ({type(error).__name__}: {first_line(error)}). Without a hub, "
                "use a file, a list, or python-docs"
            ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).splitlines() or [""])[0]
