"""TextSource: where calibration and evaluation text comes from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Literal

from swm.interfaces.strategy import Strategy

Purpose = Literal["calibration", "evaluation"]


class TextSource(Strategy):
    """Gives documents. A source that can keep the two purposes apart gives disjoint text for them."""

    kind: ClassVar[str] = "text"

    @abstractmethod
    def documents(self, purpose: Purpose) -> Iterable[str]:
        """The documents in a fixed order. Raises TextError when they cannot be had."""

    def title(self) -> str:
        """How messages call the source: its name, or where it reads from."""
        return self.name

    def check(self) -> None:
        """Raise TextError early when the source obviously cannot be read; must be cheap."""

    def separates(self) -> bool:
        """Whether calibration and evaluation get disjoint documents."""
        return False
