"""Entry: a registered strategy class and who brought it."""

from __future__ import annotations

from dataclasses import dataclass

from swm.interfaces.strategy import Strategy


@dataclass(frozen=True)
class Entry:
    """A registered strategy class and who brought it."""

    strategy: type[Strategy]
    origin: str
