"""TextSource: where calibration and evaluation text comes from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from torch import Tensor

from swm.interfaces.calibration import Calibration as Calibration
from swm.interfaces.conversation import Conversations
from swm.interfaces.progress import Progress
from swm.interfaces.strategy import Strategy
from swm.shown.values import short_repr

Purpose = Literal["calibration", "evaluation"]


class _NoText(str):
    """An empty text that can be told from a row that holds an empty text."""

    __slots__ = ()


NO_TEXT: Final[str] = _NoText()
"""What a source gives for a row without a text: it is left out and counted."""


@dataclass(frozen=True)
class Example:
    """A piece to train on; only the tokens of `response` count in the loss."""

    prompt: str
    response: str


@dataclass(frozen=True)
class TextRow:
    """A row of a source that may hold images: its text, empty where it has none, its image, and its place."""

    text: str
    image: Path | None
    where: str


@dataclass(frozen=True)
class DenseModel:
    """The original model as a source may use it, and a folder where results may be kept.

    `fingerprint` stands for all that its answers depend on: the model, the tokenizer, the code and the machine.
    `note(text)` is for the report.
    """

    model: Any
    tokenizer: Any
    fingerprint: str
    cache: Path
    progress: Progress
    note: Callable[[str], None] = lambda text: None

    __repr__ = short_repr


LONGEST_ABOUT = 60
"""More characters do not stand beside the title of a source."""


@dataclass(frozen=True)
class Share:
    """A source in a text of several, and its share of the tokens; the shares of all add up to 1."""

    text: TextSource
    share: float


class TextSource(Strategy):
    """Gives documents. A source that can keep the two purposes apart gives disjoint text for them."""

    kind: ClassVar[str] = "text"
    from_model: ClassVar[bool] = False
    """Whether the original model itself writes the text; `written_by` gives it then, and `documents` cannot."""
    in_memory: ClassVar[bool] = False
    """Whether the text lies in the memory of this process alone, so that a recipe on the disk cannot be run again."""

    @abstractmethod
    def documents(self, purpose: Purpose) -> Iterable[str]:
        """The documents in a fixed order, `NO_TEXT` for a row without one. Raises TextError when they cannot be had."""

    def examples(self) -> Iterable[Example] | None:
        """Prompts with their responses, for a source that has them; None for plain text."""
        return None

    def token_rows(self) -> Sequence[Tensor] | None:
        """Rows of token ids `[tokens]` (int64), for a source that holds ids already; None for text."""
        return None

    def conversations(self) -> Conversations | None:
        """Conversations, which a chat template writes, for a source that has them; None for plain text.

        `documents` gives them as plain text then.
        """
        return None

    def parts(self) -> Sequence[Share]:
        """The sources that the text is mixed of, for a source that is a mix; `documents` gives all of their texts."""
        return ()

    def with_parts(self, parts: Sequence[Share]) -> TextSource:
        """The source with other parts in the place of its own, one for one."""
        return self

    def image_rows(self) -> Iterable[TextRow] | None:
        """Rows of which some hold an image, for a source that is told to read images; None for text alone."""
        return None

    def text_alone(self) -> TextSource:
        """The source without its images."""
        return self

    def unread(self) -> str:
        """What of the source is not read although it could be, as a sentence for the report; empty for nothing."""
        return ""

    def written_by(self, dense: DenseModel) -> Sequence[str]:
        """The documents, for a source that needs the original model. Raises TextError when they cannot be had."""
        raise NotImplementedError

    def title(self) -> str:
        """How messages call the source: its name, or where it reads from."""
        return self.name

    def check(self) -> None:
        """Raise TextError early when the source obviously cannot be read; must be cheap."""

    def check_model(self, config: Any) -> None:
        """Raise TextError early when a model with this config cannot write the text, or has no such token ids."""

    def separates(self) -> bool:
        """Whether calibration and evaluation get disjoint documents."""
        return False


@dataclass(frozen=True)
class WrittenText(TextSource):
    """What the original model wrote for a source; it tells the source's own name and parameters."""

    name: ClassVar[str] = "written"

    source: TextSource
    pieces: Sequence[str]

    def documents(self, purpose: Purpose) -> Iterable[str]:
        return self.pieces

    def title(self) -> str:
        return self.source.title()

    def spec(self) -> dict[str, Any]:
        return self.source.spec()


def leaves(source: TextSource) -> Iterator[Share]:
    """The sources that a text consists of in the end, with their shares of its tokens; one that is no mix is all."""
    if not source.parts():
        yield Share(source, 1.0)
    for part in source.parts():
        for leaf in leaves(part.text):
            yield Share(leaf.text, leaf.share * part.share)


def titles_of(parts: Sequence[Share]) -> list[str]:
    """What the sources of one text are called: where two have the same title, also by what they differ in.

    Where that is long, they are numbered. Equal sources have one title.
    """
    titles, specs = [part.text.title() for part in parts], [part.text.spec() for part in parts]
    named: list[str] = []
    for title, spec in zip(titles, specs, strict=True):
        like: list[dict[str, Any]] = []
        for other, called in zip(specs, titles, strict=True):
            if called == title and other not in like:
                like.append(other)
        own = ", ".join(f"{key} {spec[key]}" for key in spec if any(other.get(key) != spec[key] for other in like))
        about = own if len(own) <= LONGEST_ABOUT else str(1 + like.index(spec))
        named.append(f"{title} ({about})" if own else title)
    return named


def needs_model(source: TextSource) -> bool:
    """Whether the original model writes the text, or a part of it."""
    return any(leaf.text.from_model for leaf in leaves(source))
