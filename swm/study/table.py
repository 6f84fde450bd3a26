"""The tidy table of a study: a line a run, and points, which are runs that differ in nothing but the seed."""

from __future__ import annotations

import csv
import importlib.util
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from swm.errors import StudyError, unknown
from swm.files import json_text as jsontext
from swm.interfaces.executor import Row
from swm.measure.metrics import Metric
from swm.study.measures import LABELS, MEAN, TRADED, scale_of
from swm.study.naming import short_names

FIXED = ("id", "kind", "name", "seed", "state")
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
    def group(self) -> str:
        """What all its runs, and no others, have in common."""
        return str(self.rows[0]["group"])

    def value(self, measure: str) -> float | None:
        """The mean of a measure, or the value of a varied key."""
        if measure in self.estimates:
            return self.estimates[measure].value
        found = self.axes.get(measure)
        return float(found) if isinstance(found, int | float) else None

    def scale(self, measure: str) -> Metric:
        """The unit and the direction of a measure."""
        return scale_of(measure, self.rows)


def done(rows: Iterable[Row]) -> list[Row]:
    """The rows that hold results."""
    return [row for row in rows if row["state"] == "done"]


def measures(rows: Iterable[Row]) -> list[str]:
    """The measures of any of the rows: those that every study has, then the tasks."""
    found = dict.fromkeys(name for row in done(rows) for name in [*row["measures"], "seconds"])
    first = [name for name in LABELS if name in found]
    return [*first, *(name for name in found if name not in LABELS)]


def axes(rows: Iterable[Row]) -> dict[str, str]:
    """The varied keys with the short names of their columns."""
    keys = list(dict.fromkeys(key for row in rows for key in row["axes"]))
    return dict(zip(keys, short_names(keys, {*LABELS, *FIXED}), strict=True))


def tidy(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A flat line a run: who it is, the varied keys, every measure with its standard error."""
    columns, named = measures(rows), axes(rows)
    lines = []
    for row in rows:
        line: dict[str, Any] = {key: row[key] for key in FIXED}
        line |= {short: _cell(row["axes"].get(key)) for key, short in named.items()}
        for name in columns:
            value, error = (row.get("measures") or {}).get(name, (None, None))
            line[name] = row["seconds"] if name == "seconds" else value
            if error is not None or _has_error(rows, name):
                line[f"{name} error"] = error
        lines.append(line | {"error": row.get("error")})
    return lines


def _has_error(rows: Iterable[Row], name: str) -> bool:
    return any(row["measures"].get(name, (None, None))[1] is not None for row in done(rows))


def _cell(value: Any) -> Any:
    return value if isinstance(value, int | float | str) or value is None else jsontext.dumps(value)


def write_table(lines: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write `table.csv`, `table.jsonl` and, where pyarrow is installed, `table.parquet`."""
    text = io.StringIO()
    if lines:
        writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    written = {
        folder / "table.csv": text.getvalue().encode(),
        folder / "table.jsonl": "".join(jsontext.dumps(line) + "\n" for line in lines).encode(),
    }
    for file, content in written.items():
        file.write_bytes(content)
    if importlib.util.find_spec("pyarrow") is None:
        return list(written)
    import pyarrow
    from pyarrow import parquet

    columns = {key: [line[key] for line in lines] for key in (lines[0] if lines else ())}
    # A key may take numbers and names; a column of Parquet has one type.
    for key, values in columns.items():
        if len({type(v) for v in values if v is not None} - {int, float}) > 0:
            columns[key] = [None if v is None else str(v) for v in values]
    parquet.write_table(pyarrow.table(columns), folder / "table.parquet")
    return [*written, folder / "table.parquet"]


def points(rows: Sequence[Row]) -> list[Point]:
    """The runs that are done, those of one recipe together. Raises StudyError when their protocols differ."""
    finished = done(rows)
    check_protocols(finished)
    groups: dict[str, list[Row]] = {}
    for row in finished:
        groups.setdefault(row["group"], []).append(row)
    return [_point(_without_seed(group[0]), group) for group in groups.values()]


def _without_seed(row: Row) -> str:
    return str(row["name"]).removesuffix(f", seed {row['seed']}")


def _point(name: str, rows: Sequence[Row]) -> Point:
    found = {}
    for measure in measures(rows):
        pairs = [(row["seconds"], None) if measure == "seconds" else row["measures"].get(measure) for row in rows]
        known = [pair for pair in pairs if pair is not None]
        if known:
            found[measure] = estimate([float(v) for v, _ in known], [e for _, e in known])
    return Point(name, rows[0]["kind"], rows[0]["axes"], rows, found)


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
    for kind in ("perplexity", "tasks"):
        have = [(row["name"], row["protocols"][kind]) for row in rows if kind in row["protocols"]]
        for name, found in have[1:]:
            for key in dict.fromkeys([*have[0][1], *found]):
                mine, theirs = have[0][1].get(key), found.get(key)
                if mine != theirs:
                    raise StudyError(
                        f"{kind} of '{have[0][0]}' and '{name}' cannot be compared: {key} is {mine!r} and {theirs!r}"
                    )


def rank_key(found: Sequence[Point], wanted: str | None) -> str | None:
    """The measure by which methods are ranked: the wanted one, else the tasks' average, else the perplexity.

    Raises StudyError for a measure that no run has.
    """
    known = list(dict.fromkeys(name for point in found for name in point.estimates))
    if wanted is not None and found:
        if wanted not in known:
            raise StudyError(unknown("measure", wanted, known), ("rank_by",))
        return wanted
    tasks = [name for name in known if name not in LABELS]
    return next((name for name in (MEAN, *tasks[:1], "perplexity") if name in known), None)


def pareto(found: Sequence[Point]) -> set[str]:
    """The groups of the points than which no other is better in something and worse in nothing that was measured."""
    objectives = [name for name in TRADED if all(name in point.estimates for point in found)]
    scores = {point.group: [cost(point, name) for name in objectives] for point in found}

    def beaten(mine: list[float]) -> bool:
        return any(
            all(a <= b for a, b in zip(theirs, mine, strict=True)) and theirs != mine for theirs in scores.values()
        )

    return {group for group, mine in scores.items() if not beaten(mine)}


def cost(point: Point, measure: str) -> float:
    """A measure of a point so that less is better; what is not a number is worse than everything."""
    value = point.estimates[measure].value
    if math.isnan(value):
        return math.inf
    return value if point.scale(measure).less_is_better else -value
