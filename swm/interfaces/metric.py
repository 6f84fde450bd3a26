"""Metric: how a number is shown and compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A metric as people see it. `less_is_better` None means that nobody said which way is better."""

    name: str
    less_is_better: bool | None = False
    share: bool = False
    """Whether scores are shares from 0 to 1, which are shown in percent."""
    decimals: int = 3
    grows: bool = False
    """Whether scores run over orders of magnitude, so that axes are logarithmic."""
    alone: bool = False
    """Whether no mean over tasks takes it in; so it is for all numbers of measures."""

    @property
    def factor(self) -> int:
        """What a recorded score is multiplied by where it is shown."""
        return 100 if self.share else 1

    @property
    def unit(self) -> str:
        """`%`, or nothing."""
        return "%" if self.share else ""

    @property
    def averaged(self) -> bool:
        """Whether a mean over tasks says something: shares of which more is better, and nothing else."""
        return self.share and self.less_is_better is False and not self.alone

    @property
    def about(self) -> str:
        """The name with the unit, and with the direction where less is better: `acc, %`."""
        return ", ".join(part for part in (self.name, self.unit, "less is better" * bool(self.less_is_better)) if part)
