"""Points: runs that differ in nothing but the seed, as means with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from swm.errors import StudyError
from swm.interfaces.executor import Row
from swm.measure.comparable import check_one_protocol
from swm.measure.metrics import Metric
from swm.study.columns import finished, measured
from swm.study.measures import scale_of

# With fewer seeds than this, their values stand in place of a standard error.
ENOUGH_SEEDS = 4


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its standard error, None where nobody can say."""

    value: float
    error: float | None = None
    seeds: Sequence[float] = ()
    """The values of the seeds, where these are too few for a standard error."""

    @property
    def low(self) -> float:
        """The lower end of what a figure draws."""
        return min([self.value - (self.shown_error or 0), *self.seeds])

    @property
    def high(self) -> float:
        """The upper end of what a figure draws."""
        return max([self.value + (self.shown_error or 0), *self.seeds])

    @property
    def shown_error(self) -> float | None:
        """The standard error, where it is shown."""
        return None if self.seeds else self.error


@dataclass(frozen=True)
class Point:
    """The runs of one recipe with all its seeds."""

    name: str
    kind: str
    axes: Mapping[str, Any]
    rows: Sequence[Row]
    estimates: Mapping[str, Estimate]

    @property
    def is_trivial(self) -> bool:
        """Whether it is there to be beaten."""
        return self.kind in ("trivial", "baseline")

    @property
    def rejected(self) -> str:
        """Which limits of the recipe's `accept` a run of it missed; empty where all were kept."""
        return next((str(row["rejected"]) for row in self.rows if row.get("rejected")), "")

    @property
    def outside(self) -> bool:
        """Whether it is a run of an earlier grid, which the study does not ask for any more."""
        return bool(self.rows[0].get("outside"))

    @property
    def asked(self) -> str:
        """The budget that its recipe asks for and that it meets; empty where there is none."""
        return str(self.rows[0].get("asked") or "")

    @property
    def group(self) -> str:
        """What all its runs, and no others, have in common."""
        return f"{self.rows[0]['group']}{' outside' if self.outside else ''}"

    def value(self, measure: str) -> float | None:
        """The mean of a measure, or the value of a varied key."""
        if measure in self.estimates:
            return self.estimates[measure].value
        varied = self.axes.get(measure)
        return float(varied) if isinstance(varied, int | float) else None

    def scale(self, measure: str) -> Metric:
        """The unit and the direction of a measure."""
        return scale_of(measure, self.rows)


def points(rows: Sequence[Row]) -> list[Point]:
    """The runs that are done, those of one recipe together. Raises StudyError when their protocols differ."""
    done = finished(rows)
    check_protocols([row for row in done if not row.get("outside")])
    # Seeds that the study does not ask for any more are no part of the point that it asks for.
    groups: dict[tuple[str, bool], list[Row]] = {}
    for row in done:
        groups.setdefault((row["group"], bool(row.get("outside"))), []).append(row)
    return [_point(_without_seed(group[0]), group) for group in groups.values()]


def _without_seed(row: Row) -> str:
    return str(row["name"]).removesuffix(f", seed {row['seed']}")


def _point(name: str, rows: Sequence[Row]) -> Point:
    estimates = {}
    for measure in measured(rows):
        if measure == "seconds":
            # How long a run takes depends on what else the machine does, which no error over seeds tells.
            estimates[measure] = Estimate(fmean(row["seconds"] for row in rows))
            continue
        known = [row["measures"][measure] for row in rows if measure in row["measures"]]
        if known:
            estimates[measure] = estimate([float(v) for v, _ in known], [e for _, e in known])
    return Point(name, rows[0]["kind"], rows[0]["axes"], rows, estimates)


def estimate(values: Sequence[float], errors: Sequence[float | None]) -> Estimate:
    """The mean over seeds with its standard error: that of the seeds, and that of the items that all seeds share.

    Every seed is measured on the same items, so that their error does not shrink with more seeds.
    """
    known = [error for error in errors if error is not None]
    items = fmean(known) if known else None
    if not all(map(math.isfinite, values)):
        return Estimate(fmean(values))
    if len(set(values)) == 1:
        return Estimate(values[0], items)
    seeds = stdev(values) / math.sqrt(len(values))
    few = values if len(values) < ENOUGH_SEEDS else ()
    return Estimate(fmean(values), math.hypot(seeds, items or 0), few)


def check_protocols(rows: Sequence[Row]) -> None:
    """Raise StudyError that names the difference when two rows were not measured by one protocol."""
    for kind in dict.fromkeys(kind for row in rows for kind in row["protocols"]):
        protocols = [(row["name"], row["protocols"][kind]) for row in rows if kind in row["protocols"]]
        check_one_protocol(kind, protocols, StudyError)
