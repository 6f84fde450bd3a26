"""TokensUsed: how many tokens of one source of text something used."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class TokensUsed:
    """The tokens of one source, counted as often as they were read.

    `samples` and `pieces` say in how many rows they stood, `searched` how many of them a search looked at, and
    `predicted` how many of them a training predicted.
    """

    KEY: ClassVar[str] = "tokens_used"
    """Where records and facts hold a list of these."""

    source: str
    tokens: int
    samples: int | None = None
    pieces: int | None = None
    searched: int | None = None
    predicted: int | None = None

    def record(self) -> dict[str, Any]:
        """As the report holds it; what does not apply is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}
