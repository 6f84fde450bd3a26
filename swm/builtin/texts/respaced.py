"""Another source, some of whose words and marks are written with or without the blank before them, the other way."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from swm.errors import TextError
from swm.interfaces.text import NO_TEXT, Example, Purpose, TextSource, needs_model

# The blank before a word or a mark, if there is one: a line's beginning has none, and gets none.
_PIECE = re.compile(r"(?P<blank>(?<=\S) (?=\S))?(?P<piece>[^\W_]+|[^\w\s]|_)")


@final
@dataclass(frozen=True)
class Respaced(TextSource):
    """The text of `text`, in which a `share` of the different words and marks of a document change the blank before it.

    Such a word stands without the blank wherever it had one, and with one wherever it stood close to what is before
    it: "a mark, then a word" is "a mark , thena word". Which ones is drawn for each document, and the whole document
    keeps to it, so that a model can see from what it has read how the next one is written. A model that was fitted to
    such text beside the plain one loses less on text that is spaced in an unusual way, such as WikiText, whose marks
    stand apart. Calibration and training read it so, evaluation reads the plain text.
    """

    name: ClassVar[str] = "respaced"

    text: TextSource
    share: Annotated[float, Field(gt=0, le=1)] = 0.3
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if needs_model(self.text):
            raise ValueError(f"text '{self.text.name}' is written by the model; name a text that is there already")

    @property
    def in_memory(self) -> bool:  # type: ignore[override]
        """As of the other source."""
        return self.text.in_memory

    def title(self) -> str:
        return f"{self.text.title()}, respaced"

    def check(self) -> None:
        self.text.check()
        given = (self.text.token_rows(), self.text.image_rows(), self.text.conversations())
        if any(one is not None for one in given):
            raise TextError(
                f"text '{self.text.title()}' holds token ids, images or conversations; only documents can be respaced"
            )
        if self.text.parts():
            raise TextError(f"text '{self.text.title()}' is a mix; respace each text in it")

    def check_model(self, config: Any) -> None:
        self.text.check_model(config)

    def unread(self) -> str:
        return self.text.unread()

    def separates(self) -> bool:
        return self.text.separates()

    def documents(self, purpose: Purpose) -> Iterable[str]:
        given = self.text.documents(purpose)
        return given if purpose == "evaluation" else self._changed(given)

    def examples(self) -> Iterable[Example] | None:
        given = self.text.examples()
        return None if given is None else self._changed_examples(given)

    def _changed(self, documents: Iterable[str]) -> Iterator[str]:
        for number, document in enumerate(documents):
            yield document if document is NO_TEXT else self._respacing(number).of(document)

    def _changed_examples(self, examples: Iterable[Example]) -> Iterator[Example]:
        for number, example in enumerate(examples):
            respacing = self._respacing(number)
            yield Example(respacing.of(example.prompt), respacing.of(example.response))

    def _respacing(self, number: int) -> _Respacing:
        # A string: a tuple would be hashed, in another way in each process.
        return _Respacing(self.share, random.Random(f"{self.seed} {number}"))


class _Respacing:
    """What changes in one document, drawn as its words come."""

    def __init__(self, share: float, generator: random.Random) -> None:
        self.share, self.generator = share, generator
        self.changes: dict[str, bool] = {}

    def of(self, text: str) -> str:
        return _PIECE.sub(self._written, text)

    def _written(self, match: re.Match[str]) -> str:
        blank, piece = match["blank"] or "", match["piece"]
        if piece not in self.changes:
            self.changes[piece] = self.generator.random() < self.share
        if not self.changes[piece]:
            return blank + piece
        if blank:
            return piece
        behind = match.start() > 0 and not match.string[match.start() - 1].isspace()
        return f" {piece}" if behind else piece
