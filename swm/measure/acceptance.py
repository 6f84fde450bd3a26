"""What a compressed model must reach to be saved, as multiples of what the original one reaches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

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
class MeasureLimit:
    """The most or the least that a number of a measure may be: times that of the original model, or the number itself.

    With `absolute` it is the number as it was measured, shares from 0 to 1.
    """

    at_most: float | None = None
    at_least: float | None = None
    absolute: bool = False

    def __post_init__(self) -> None:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("a limit of a measure is at_most: x or at_least: x, and one of them alone")

    def holds(self, number: float) -> bool:
        """Whether the ratio, or the number itself, keeps it."""
        return number <= self.at_most if self.at_most is not None else number >= (self.at_least or 0.0)

    def __str__(self) -> str:
        return f"at most {self.at_most:g}" if self.at_most is not None else f"at least {self.at_least:g}"


@dataclass(frozen=True)
class Acceptance:
    """Limits of a run; a result that misses one is not saved.

    `perplexity: {at_most: 1.3}` is 1.3 times the original model's perplexity, `tasks: {at_least: 0.95}` 0.95 times its
    average over the tasks (of one task, its score). `measures: {kl-to-dense: {at_most: 0.1, absolute: true}}` limits
    numbers of measures by their names.
    """

    perplexity: AtMost | None = None
    tasks: AtLeast | None = None
    measures: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.perplexity is None and self.tasks is None and not self.measures:
            raise ValueError(
                "accept needs perplexity: {at_most: x}, tasks: {at_least: x} or measures: {NAME: {at_most: x}}"
            )

    def limits(self) -> dict[str, AtMost | AtLeast]:
        """The limits of perplexity and tasks, by name."""
        both = {"perplexity": self.perplexity, "tasks": self.tasks}
        return {name: limit for name, limit in both.items() if limit is not None}

    def measure_limits(self) -> Mapping[str, MeasureLimit]:
        """The limits of the numbers of measures, by name."""
        return self.measures or {}
