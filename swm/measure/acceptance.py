"""What a compressed model must reach to be saved, as multiples of what the original one reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True)
class AtMost:
    """The most that a measure may be, times that of the original model."""

    at_most: Annotated[float, Field(gt=0)]

    def holds(self, ratio: float) -> bool:
        return ratio <= self.at_most

    def __str__(self) -> str:
        return f"at most {self.at_most:g}"


@dataclass(frozen=True)
class AtLeast:
    """The least that a measure may be, times that of the original model."""

    at_least: Annotated[float, Field(gt=0)]

    def holds(self, ratio: float) -> bool:
        return ratio >= self.at_least

    def __str__(self) -> str:
        return f"at least {self.at_least:g}"


@dataclass(frozen=True)
class Acceptance:
    """Limits of a run; a result that misses one is not saved.

    `perplexity: {at_most: 1.3}` is 1.3 times the original model's perplexity, `tasks: {at_least: 0.95}` 0.95 times its
    average over the tasks (of one task, its score).
    """

    perplexity: AtMost | None = None
    tasks: AtLeast | None = None

    def __post_init__(self) -> None:
        if self.perplexity is None and self.tasks is None:
            raise ValueError("accept needs perplexity: {at_most: x}, tasks: {at_least: x}, or both")

    def limits(self) -> dict[str, AtMost | AtLeast]:
        """The limits by measure."""
        both = {"perplexity": self.perplexity, "tasks": self.tasks}
        return {name: limit for name, limit in both.items() if limit is not None}
