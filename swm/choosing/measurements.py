"""What was measured of recipes: rows of a benchmark, and what they say of other sizes and other times."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

FILE = resources.files("swm.choosing") / "measured.json"


@dataclass(frozen=True)
class MeasuredRow:
    """A row: what perplexity was, in times of the original model's, when a share of the layers' parameters was gone.

    `seconds` are those of its stages, by their number and name.
    """

    name: str
    times: float
    gone: float
    seconds: Mapping[str, float]

    @property
    def size(self) -> str:
        """How much went, as the name of the row says it: `6 layers`, `20%`."""
        return self.name.rpartition(" | ")[2]

    def seconds_of(self, stages: Collection[str]) -> float:
        """The seconds of all stages of these names."""
        return sum(value for stage, value in self.seconds.items() if stage.partition(" ")[2] in stages)


def read_measurements() -> dict[str, MeasuredRow]:
    """All rows by name, as `benchmarks/measured.py` copies them."""
    rows = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: MeasuredRow(name, **values) for name, values in rows.items()}


def place_of(row: MeasuredRow, rows: Collection[MeasuredRow], near: str) -> tuple[int, int]:
    """The place of a row among those of its size, and how many there are; rows with `near` in their names do not count.

    Args:
        row: The row.
        rows: All rows.
        near: What names of rows have that were calibrated on the evaluated kind of text.
    """
    others = [other for other in rows if other.size == row.size and near not in other.name]
    return 1 + sum(other.times < row.times for other in others), len(others)


def nearest(rows: Sequence[MeasuredRow], gone: float) -> MeasuredRow:
    """The row in which about this share of the layers' parameters went."""
    return min(rows, key=lambda row: abs(math.log(row.gone / gone)))


def expected_log(rows: Sequence[MeasuredRow], gone: float, power: tuple[float, float]) -> float:
    """The logarithm of the perplexity in times of the original one, where this share of the layers' parameters goes.

    Between two rows, and beyond them, it is a power of the share: the line through both in a plot of logarithms.

    Args:
        rows: Rows of one recipe at different sizes.
        gone: The share.
        power: The power below and above the row of a recipe with one.
    """
    points = sorted({row.gone: max(math.log(row.times), 1e-3) for row in rows}.items())
    if len(points) > 1:
        high = next((i for i, (share, _) in enumerate(points[1:], 1) if gone <= share), len(points) - 1)
        (x, y), (beyond_x, beyond_y) = points[high - 1], points[high]
        return float(y * (gone / x) ** max(1.0, math.log(beyond_y / y) / math.log(beyond_x / x)))
    x, y = points[0]
    return float(y * (gone / x) ** power[gone > x])


@dataclass(frozen=True)
class Expectation:
    """What is to be expected of a recipe: `log_times`, and the row that says so best."""

    log_times: float
    row: MeasuredRow

    @property
    def times(self) -> float:
        """The perplexity in times of the original one."""
        return math.exp(self.log_times)


def expected(
    levels: Sequence[tuple[float, Sequence[MeasuredRow]]], gone: float, seconds: float, power: tuple[float, float]
) -> Expectation | None:
    """What is to be expected after so many seconds of the stages whose seconds can be chosen.

    Between two amounts of time the logarithm is interpolated, and more time than was measured is worth nothing: a
    training gains most at its beginning, so the truth is hardly worse. None for less time than the first level has.

    Args:
        levels: The seconds of each level on this machine, ascending, and its rows.
        gone: The share of the layers' parameters that goes.
        seconds: The seconds that there are.
        power: See `expected_log`.
    """
    values = [(least, log, rows) for (least, rows), log in zip(levels, _logs(levels, gone, power), strict=True)]
    reached = [value for value in values if value[0] <= seconds]
    if not reached:
        return None
    least, log_times, rows = reached[-1]
    if len(reached) < len(values):
        beyond, next_log, next_rows = values[len(reached)]
        part = (seconds - least) / (beyond - least)
        log_times += part * (next_log - log_times)
        rows = next_rows if part >= 0.5 else rows
    return Expectation(log_times, nearest(rows, gone))


def _logs(
    levels: Sequence[tuple[float, Sequence[MeasuredRow]]], gone: float, power: tuple[float, float]
) -> Iterator[float]:
    """What is to be expected at each level. See `expected`.

    One with rows of fewer sizes than the level before says how much of its logarithm the longer time takes away, for a
    line through one point says little of other sizes.
    """
    log = 0.0
    before: Sequence[MeasuredRow] = ()
    for _, rows in levels:
        if len(rows) < len(before):
            row = nearest(rows, gone)
            log *= math.log(row.times) / expected_log(before, row.gone, power)
        else:
            log = expected_log(rows, gone, power)
        before = rows
        yield log
