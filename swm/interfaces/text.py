"""TextSource: where calibration and evaluation text comes from."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import torch
from torch import Tensor

from swm.errors import TextError
from swm.interfaces.progress import Progress
from swm.interfaces.strategy import Strategy
from swm.model.samples import Samples
from swm.model.token_ids import new_rows
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


@dataclass(frozen=True)
class Calibration:
    """Token ids `[samples, seq_len]` (int64), where they come from and how they were drawn, and a sha256 of them."""

    ids: Tensor
    source: dict[str, Any]
    seed: int
    drawn: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
    """By its row, what a sample with an image gives the model beside its ids."""
    placeholders: Sequence[int] = ()
    """The ids that stand for pieces of an image."""

    __repr__ = short_repr

    @property
    def samples(self) -> Samples:
        """The ids with the images: what a model is run on."""
        return Samples(self.ids, self.images, self.placeholders)

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.ids.numpy().tobytes())
        for row, inputs in sorted(self.images.items()):
            for name, value in sorted(inputs.items()):
                digest.update(f"{row} {name} {value.dtype} {list(value.shape)}".encode())
                digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def renumbered(self, kept: Sequence[int]) -> Calibration:
        """The same text by its ids in a vocabulary of which the ids `kept`, ascending, are left.

        Raises TextError when a token of the text is not among them.
        """
        rows = new_rows(self.ids, kept)
        gone = sorted(set(self.ids[rows < 0].tolist()))
        if gone:
            raise TextError(
                f"{len(gone)} tokens of the calibration text do not stay (id {gone[0]} is one), and later stages read "
                "that text; keep its tokens, or put this stage behind them"
            )
        return replace(self, ids=rows)

    def record(self) -> dict[str, Any]:
        """What the report says of it."""
        samples, seq_len = self.ids.shape
        return {
            "text": self.source,
            "samples": samples,
            "seq_len": seq_len,
            **({"images": len(self.images)} if self.images else {}),
            **self.drawn,
            "seed": self.seed,
            "sha256": self.fingerprint,
        }
