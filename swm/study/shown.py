"""The results of a study as the command line and notebooks show them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from swm.interfaces.executor import Row
from swm.measure.metrics import format_number
from swm.measure.plus_minus import PLUS_MINUS
from swm.shown.tables import Part, Table
from swm.study.against_best import AgainstBest
from swm.study.answers import spread
from swm.study.columns import measured
from swm.study.measures import measure_label, scale_of
from swm.study.points import Point
from swm.study.verdict import Verdict

# Of more methods at a budget, only the page lists all pairs.
FEW = 6


def results_parts(
    title: str,
    rows: Sequence[Row],
    ordered: Sequence[Point],
    verdicts: Sequence[Verdict],
    best: Mapping[str, AgainstBest],
) -> list[Part]:
    """A row for each point, then the verdicts, then what else must be said.

    Args:
        title: The title of the study.
        rows: Its runs.
        ordered: Its points, the best first.
        verdicts: What is said of them.
        best: What each point is beside the best of its budget, by groups.
    """
    columns = [name for name in measured(rows) if name != "seconds"]
    lines: list[list[Any]] = []
    for point in ordered:
        marks = [word for word, holds in (("rejected", point.rejected), ("outside the grid", point.outside)) if holds]
        against = best.get(point.group)
        line = [point.name + (f" ({', '.join(marks)})" if marks else ""), *(_cell(point, name) for name in columns)]
        lines.append([*line, *([against.text if against else "–"] if best else [])])
    heads = [measure_label(name, scale_of(name, rows)) for name in columns]
    named = [f"run, {PLUS_MINUS}", *heads, *(["against the best method"] if best else [])]
    return [Table(named, lines, title), *_sentences(rows, ordered, verdicts)]


def _sentences(rows: Sequence[Row], ordered: Sequence[Point], verdicts: Sequence[Verdict]) -> Iterator[str]:
    for verdict in verdicts:
        yield verdict.sentence
        if len(verdict.more) < FEW:
            yield from (f"  {line}" for line in verdict.more)
    tests = sum(len(verdict.pairs) for verdict in verdicts)
    if tests:
        yield f"Compared item by item; {tests} tests corrected together (Holm, 5 %)."
    yield from (f"Rejected: {point.name}: {point.rejected}" for point in ordered if point.rejected)
    for row in [row for row in rows if row.get("same_as")]:
        yield f"{row['name']} has the plan of {row['same_as']}, and so its result."


def _cell(point: Point, measure: str) -> str:
    """A measure with the digits that it is told in."""
    if measure not in point.estimates:
        return "–"
    digits = point.scale(measure).decimals
    return spread(point.estimates[measure], lambda value: format_number(value, digits), digits)
