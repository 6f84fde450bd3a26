"""Text from a data set on the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, final

from swm.builtin.texts.fields import text_of
from swm.errors import TextError
from swm.interfaces.text import Purpose, TextSource


@final
@dataclass(frozen=True)
class HubText(TextSource):
    """A data set by its hub id, streamed in its own order. A bare `owner/name` in a recipe means this source.

    Rows whose `field` is null are left out and counted.
    """

    name: ClassVar[str] = "hub"

    dataset: str
    config: str | None = None
    split: str = "train"
    field: str = "text"

    @classmethod
    def from_value(cls, value: Any) -> dict[str, Any] | None:
        is_id = isinstance(value, str) and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", value)
        return {"dataset": value} if is_id else None

    def title(self) -> str:
        return self.dataset

    def documents(self, purpose: Purpose) -> Iterable[str]:
        import datasets

        try:
            rows = datasets.load_dataset(self.dataset, self.config, split=self.split, streaming=True)
            for number, row in enumerate(rows, 1):
                where = f"data set {self.dataset}: row {number}"
                yield text_of(where, row, self.field, f"{{name: alpaca, dataset: {self.dataset}}}")
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
