"""The results of a study as far as it is done, read from its folder at any time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swm.errors import StudyError, nearest_file
from swm.files import yaml_file as yamlfile
from swm.interfaces.executor import Row
from swm.shown.tables import Part, html
from swm.study.against_best import AgainstBest, against_best
from swm.study.journal import STUDY, Journal
from swm.study.placing import placed
from swm.study.planned_file import read_planned
from swm.study.points import Point, points
from swm.study.ranking import cost, rank_key
from swm.study.shown import results_parts
from swm.study.verdict import Verdict, verdicts

PAGE = "study.html"


@dataclass(frozen=True)
class Results:
    """All of a study that is done so far. `problems` are sentences about what could not be shown."""

    folder: Path
    described: Mapping[str, Any]
    rows: Sequence[Row]
    points: Sequence[Point]
    rank_by: str | None
    verdicts: Sequence[Verdict]
    problems: Sequence[str] = ()

    @property
    def title(self) -> str:
        return str(self.described.get("title") or self.folder.resolve().name)

    def parts(self) -> list[Part]:
        """A table of the points, the best first, and the verdicts."""
        return results_parts(self.title, self.rows, ranked(self), self.verdicts, self.best)

    def __repr__(self) -> str:
        done = sum(row["state"] == "done" for row in self.rows)
        return f"Results({self.title}: {done} of {len(self.rows)} runs done; {self.folder / PAGE})"

    def _repr_html_(self) -> str:
        return html([*self.parts(), f"saved: {self.folder / PAGE}"])

    @property
    def best(self) -> Mapping[str, AgainstBest]:
        """What each point is beside the best at its budget, by groups."""
        return against_best(self.verdicts)


def read_results(folder: str | Path) -> Results:
    """The results in a study's folder. Raises StudyError when it is none."""
    place = Path(folder)
    if not (place / STUDY).is_file():
        raise StudyError(f"{place} has no {STUDY}, so it is no study's folder.{nearest_file(place)}")
    described, _ = yamlfile.read("study", place / STUDY)
    if not isinstance(described, dict) or not isinstance(described.get("rank_by"), str | None):
        raise StudyError(f"{place / STUDY} is not as a study left it; run the study again with the same --output")
    rows = placed(Journal(place).current_rows(), described, read_planned(place), place)
    means = points(rows)
    problems = []
    try:
        rank_by = rank_key([point for point in means if not point.outside], described.get("rank_by"))
    except StudyError as error:  # nothing that has it is done yet
        rank_by = None
        problems.append(str(error))
    return Results(place, described, rows, means, rank_by, verdicts(means, rank_by) if rank_by else [], problems)


def ranked(results: Results) -> list[Point]:
    """The points, the best first; those that lack the measure, and those outside the grid, last."""
    key = results.rank_by
    inside = [point for point in results.points if not point.outside]
    able = [point for point in inside if key in point.estimates]
    rest = [point for point in inside if key not in point.estimates]
    first = able if key is None else sorted(able, key=lambda point: cost(point, key))
    return [*first, *rest, *(point for point in results.points if point.outside)]
