"""Another source, of which a part is kept from calibration and training, for evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar, final

from pydantic import Field

from swm.errors import TextError
from swm.interfaces.text import NO_TEXT, Example, Purpose, TextSource, needs_model
from swm.text.tokens import MAX_CHARACTERS

T = TypeVar("T")


@final
@dataclass(frozen=True)
class HeldOut(TextSource):
    """The documents of `text`, a `share` of which only evaluation reads, and all others only calibration and training.

    Of every 1 / `share` documents it is the last. Where there are fewer in all, it is the end of each document. Rows of
    token ids, images, conversations, and text that the model writes cannot be split; in a mix, each text can.
    """

    name: ClassVar[str] = "held-out"

    text: TextSource
    share: Annotated[float, Field(gt=0, le=0.5)] = 0.1

    def __post_init__(self) -> None:
        if needs_model(self.text):
            raise ValueError(f"text '{self.text.name}' is written by the model; name a text that is there already")

    @property
    def in_memory(self) -> bool:  # type: ignore[override]
        """As of the other source."""
        return self.text.in_memory

    @property
    def every(self) -> int:
        """One of so many documents is for evaluation."""
        return round(1 / self.share)

    def title(self) -> str:
        return self.text.title()

    def check(self) -> None:
        self.text.check()
        given = (self.text.token_rows(), self.text.image_rows(), self.text.conversations())
        if any(one is not None for one in given):
            raise TextError(
                f"text '{self.title()}' holds token ids, images or conversations; only documents can be held out"
            )
        if self.text.parts():
            raise TextError(f"text '{self.title()}' is a mix; hold out a part of each text in it")

    def check_model(self, config: Any) -> None:
        self.text.check_model(config)

    def unread(self) -> str:
        return self.text.unread()

    def separates(self) -> bool:
        return True

    def documents(self, purpose: Purpose) -> Iterable[str]:
        return self._part(self.text.documents(purpose), purpose, self._ends)

    def examples(self) -> Iterable[Example] | None:
        given = self.text.examples()
        return None if given is None else self._part(given, "calibration", lambda few, purpose: iter(few))

    def _part(
        self, given: Iterable[T], purpose: Purpose, of_few: Callable[[list[T], Purpose], Iterator[T]]
    ) -> Iterator[T]:
        """The items for a purpose; `of_few` says which where there are too few to take one of every so many."""
        items = iter(given)
        first = list(itertools.islice(items, self.every))
        if len(first) < self.every:
            yield from of_few(first, purpose)
            return
        for number, item in enumerate(itertools.chain(first, items), 1):
            if (number % self.every == 0) == (purpose == "evaluation"):
                yield item

    def _ends(self, documents: list[str], purpose: Purpose) -> Iterator[str]:
        """The beginnings of documents, or their ends, cut at a blank."""
        for document in documents:
            if document is NO_TEXT:
                yield document
                continue
            read = document[:MAX_CHARACTERS]
            place = int(len(read) * (1 - self.share))
            blank = max(read.rfind(mark, place // 2, place + 1) for mark in "\n ")
            cut = place if blank < 0 else blank
            yield read[:cut] if purpose == "calibration" else read[cut:]
