"""The results of a study: tables, figures and a page, written anew from its journal at any time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from swm.errors import StudyError, nearest_file
from swm.files import yaml_file as yamlfile
from swm.files.scratch import scratch
from swm.interfaces.executor import Row
from swm.plugins.loading import load_plugins
from swm.report.html_format import FILTERS, seen
from swm.shown.tables import Part, html
from swm.study.columns import axis_names, measured
from swm.study.figures import Figure, read_figures
from swm.study.journal import STUDY, Journal
from swm.study.measures import measure_label, scale_of
from swm.study.naming import label
from swm.study.plots import write_plots
from swm.study.points import Point, points
from swm.study.ranking import cost, pareto, rank_key
from swm.study.shown import results_parts
from swm.study.table import tidy, write_table
from swm.study.verdict import Verdict, verdicts

PAGE = "study.html"


@dataclass(frozen=True)
class Results:
    """All of a study that is done so far."""

    folder: Path
    described: Mapping[str, Any]
    rows: Sequence[Row]
    points: Sequence[Point]
    rank_by: str | None
    verdicts: Sequence[Verdict]

    @property
    def title(self) -> str:
        return str(self.described.get("title") or self.folder.resolve().name)

    def parts(self) -> list[Part]:
        """A table of the points, the best first, and the verdicts."""
        return results_parts(self.title, self.rows, ranked(self), self.verdicts)

    def __repr__(self) -> str:
        done = sum(row["state"] == "done" for row in self.rows)
        return f"Results({self.title}: {done} of {len(self.rows)} runs done; {self.folder / PAGE})"

    def _repr_html_(self) -> str:
        return html([*self.parts(), f"saved: {self.folder / PAGE}"])


def read_results(folder: str | Path) -> Results:
    """The results in a study's folder. Raises StudyError when it is none."""
    place = Path(folder)
    if not (place / STUDY).is_file():
        raise StudyError(f"{place} has no {STUDY}, so it is no study's folder.{nearest_file(place)}")
    described, _ = yamlfile.read("study", place / STUDY)
    if not isinstance(described, dict) or not isinstance(described.get("rank_by"), str | None):
        raise StudyError(f"{place / STUDY} is not as a study left it; run the study again with the same --output")
    rows = Journal(place).current_rows()
    means = points(rows)
    rank_by = rank_key(means, described.get("rank_by"))
    return Results(place, described, rows, means, rank_by, verdicts(means, rank_by) if rank_by else [])


def write_results(results: Results) -> Path:
    """Write tables, figures and `study.html` into the study's folder; returns the page."""
    folder = results.folder
    with _together(folder) as fresh:
        write_table(tidy(results.rows), fresh)
        (fresh / "figures").mkdir()
        names = write_plots(_figures(results), results.points, fresh / "figures") if results.points else []
        pictures = {name: (fresh / "figures" / f"{name}.svg").read_text(encoding="utf-8") for name in names}
        (fresh / PAGE).write_text(page(results, pictures), encoding="utf-8")
    return folder / PAGE


@contextlib.contextmanager
def _together(folder: Path) -> Iterator[Path]:
    """A folder whose files replace those of the same name at the end, so that none is ever half-written."""
    with scratch(folder) as place:
        fresh = place.new
        yield fresh
        for item in sorted(fresh.rglob("*")):
            target = folder / item.relative_to(fresh)
            if item.is_dir():
                target.mkdir(exist_ok=True)
            else:
                os.replace(item, target)


def _figures(results: Results) -> list[Figure]:
    return list(read_figures(list(results.described.get("figures") or []), load_plugins()))


def page(results: Results, pictures: Mapping[str, str]) -> str:
    """The page, which needs nothing else; a few lines of script in it sort the table."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("swm.report"), autoescape=True, finalize=seen, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= FILTERS
    columns = measured(results.rows)
    front = pareto(results.points)
    return environment.get_template("study.html").render(
        title=results.title,
        verdicts=[verdict.sentence for verdict in results.verdicts],
        rank_by=results.rank_by and measure_label(results.rank_by, scale_of(results.rank_by, results.rows)),
        pictures={name: Markup(_inline(text)) for name, text in pictures.items()},
        axes=list(axis_names(results.rows).values()),
        measures=[measure_label(name, scale_of(name, results.rows)) for name in columns],
        lines=[_line(point, results, columns, front) for point in results.points],
        rejected=[point for point in results.points if point.rejected],
        failed=[row for row in results.rows if row["state"] != "done"],
        done=sum(row["state"] == "done" for row in results.rows),
        protocols=_protocols(results.rows),
        seconds=sum(row["seconds"] or 0 for row in results.rows),
        described=yamlfile.dump(dict(results.described)),
    )


def _inline(svg: str) -> str:
    """The drawing without the head of a file."""
    return svg[svg.index("<svg") :]


def _line(point: Point, results: Results, columns: Sequence[str], front: set[str]) -> dict[str, Any]:
    """A line of the page's table.

    Args:
        point: The point.
        results: The study's results.
        columns: The measures that have columns.
        front: The groups of the points on the Pareto front.
    """
    best = {verdict.winner.group for verdict in results.verdicts}
    return {
        "name": point.name,
        "rejected": point.rejected,
        "kind": point.kind,
        "seeds": len(point.rows),
        "axes": [label(point.axes[key]) if key in point.axes else "" for key in axis_names(results.rows)],
        "cells": [point.estimates.get(name) for name in columns],
        "front": point.group in front,
        "best": point.group in best,
    }


def _protocols(rows: Sequence[Row]) -> dict[str, Any]:
    protocols: dict[str, Any] = {}
    for row in rows:
        protocols |= row.get("protocols") or {}
    return protocols


def ranked(results: Results) -> list[Point]:
    """The points, the best first; those that lack the measure last."""
    key = results.rank_by
    if key is None:
        return list(results.points)
    able = [point for point in results.points if key in point.estimates]
    return [*sorted(able, key=lambda point: cost(point, key)), *(p for p in results.points if p not in able)]
