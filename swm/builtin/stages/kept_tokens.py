"""What a `vocabulary` stage keeps, said in one of three ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from swm.errors import PlanError
from swm.interfaces.text import TextSource
from swm.model.ranges import parse_ranges

TokenId = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class KeptTokens:
    """Which tokens stay. Exactly one of: every token of a `text`; these `ids`, listed or as `0-99,205`; or the `size`
    that the vocabulary shall have, which the most frequent tokens of the calibration text fill."""

    text: TextSource | None = None
    ids: Sequence[TokenId] | str | None = None
    size: Annotated[int, Field(ge=1)] | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("text", "ids", "size") if getattr(self, name) is not None]
        if len(given) != 1:
            named = " and ".join(given) or "nothing"
            raise ValueError(f"keep needs exactly one of text, ids, size; found {named}")
        try:
            listed = self.listed()
        except PlanError as error:
            raise ValueError(f"ids: {error}") from None
        if self.ids is not None and not listed:
            raise ValueError("ids: there is none")

    def listed(self) -> list[int]:
        """The ids that were given as such."""
        if self.ids is None:
            return []
        return parse_ranges(self.ids) if isinstance(self.ids, str) else sorted(set(self.ids))
