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

INTERVAL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and the half of its 95 % interval, None where nobody can say."""

    value: float
    half: float | None
    error: float | None = None
    """The standard error behind it."""

    @property
    def low(self) -> float:
        return self.value - (self.half or 0)

    @property
    def high(self) -> float:
        return self.value + (self.half or 0)


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
    def group(self) -> str:
        """What all its runs, and no others, have in common."""
        return str(self.rows[0]["group"])

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
    check_protocols(done)
    groups: dict[str, list[Row]] = {}
    for row in done:
        groups.setdefault(row["group"], []).append(row)
    return [_point(_without_seed(group[0]), group) for group in groups.values()]


def _without_seed(row: Row) -> str:
    return str(row["name"]).removesuffix(f", seed {row['seed']}")


def _point(name: str, rows: Sequence[Row]) -> Point:
    estimates = {}
    for measure in measured(rows):
        pairs = [(row["seconds"], None) if measure == "seconds" else row["measures"].get(measure) for row in rows]
        known = [pair for pair in pairs if pair is not None]
        if known:
            estimates[measure] = estimate([float(v) for v, _ in known], [e for _, e in known])
    return Point(name, rows[0]["kind"], rows[0]["axes"], rows, estimates)


def estimate(values: Sequence[float], errors: Sequence[float | None]) -> Estimate:
    """The mean over seeds with its interval: by Student's t over seeds, and the error of the items that all share.

    Every seed is measured on the same items, so that their error does not shrink with more seeds.
    """
    known = [error for error in errors if error is not None]
    items = fmean(known) if known else None
    if not all(map(math.isfinite, values)):
        return Estimate(fmean(values), None)
    if len(values) < 2:
        half = None if items is None else 1.96 * items
        return Estimate(values[0], half, items)
    from scipy.stats import t

    if len(set(values)) == 1 and items is None:
        return Estimate(values[0], None)
    seeds = stdev(values) / math.sqrt(len(values))
    factor = float(t.ppf((1 + INTERVAL) / 2, len(values) - 1))
    return Estimate(fmean(values), math.hypot(factor * seeds, 1.96 * (items or 0)), math.hypot(seeds, items or 0))


def check_protocols(rows: Sequence[Row]) -> None:
    """Raise StudyError that names the difference when two rows were not measured by one protocol."""
    for kind in dict.fromkeys(kind for row in rows for kind in row["protocols"]):
        protocols = [(row["name"], row["protocols"][kind]) for row in rows if kind in row["protocols"]]
        check_one_protocol(kind, protocols, StudyError)
