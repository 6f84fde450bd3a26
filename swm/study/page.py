"""The page of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from swm.files import yaml_file as yamlfile
from swm.interfaces.executor import Row
from swm.measure.plus_minus import PLUS_MINUS
from swm.report.html_format import FILTERS, fixed, seen, short
from swm.study.against_best import AgainstBest
from swm.study.answers import spread
from swm.study.columns import axis_names, measured
from swm.study.measures import measure_label, scale_of
from swm.study.naming import label
from swm.study.points import Estimate
from swm.study.ranking import pareto
from swm.study.results import Results


def study_page(results: Results, pictures: Mapping[str, str], problems: Sequence[str] = ()) -> str:
    """The page, which needs nothing else; a few lines of script in it sort the table.

    Args:
        results: The study's results.
        pictures: Its figures as SVG, by name.
        problems: Sentences about what could not be shown.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("swm.report"), autoescape=True, finalize=seen, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= FILTERS
    columns, best = measured(results.rows), results.best
    return environment.get_template("study.html").render(
        title=results.title,
        plus_minus=PLUS_MINUS,
        verdicts=results.verdicts,
        tests=sum(len(verdict.pairs) for verdict in results.verdicts),
        rank_by=results.rank_by and measure_label(results.rank_by, scale_of(results.rank_by, results.rows)),
        pictures={name: Markup(_inline(text)) for name, text in pictures.items()},
        axes=list(axis_names(results.rows).values()),
        measures=[measure_label(name, scale_of(name, results.rows)) for name in columns],
        lines=_lines(results, columns, best),
        compared=bool(best),
        few=any(each.seeds for point in results.points for each in point.estimates.values()),
        rejected=[point for point in results.points if point.rejected],
        same=[row for row in results.rows if row.get("same_as")],
        failed=[row for row in results.rows if row["state"] != "done"],
        done=sum(row["state"] == "done" for row in results.rows),
        outside=sum(bool(row.get("outside")) for row in results.rows),
        problems=problems,
        protocols=_protocols(results.rows),
        seconds=sum(row["seconds"] or 0 for row in results.rows),
        described=yamlfile.dump(dict(results.described)),
    )


def _inline(svg: str) -> str:
    """The drawing without the head of a file."""
    return svg[svg.index("<svg") :]


def _lines(results: Results, columns: Sequence[str], best: Mapping[str, AgainstBest]) -> list[dict[str, Any]]:
    """The lines of the page's table.

    Args:
        results: The study's results.
        columns: The measures that have columns.
        best: What each point is beside the best of its budget, by groups.
    """
    front = pareto(results.points)
    keys = axis_names(results.rows)
    lines = []
    for point in results.points:
        digits = {name: point.scale(name).decimals for name in columns if name in point.estimates}
        against = best.get(point.group)
        lines.append(
            {
                "name": point.name,
                "rejected": point.rejected,
                "outside": point.outside,
                "kind": point.kind,
                "seeds": len(point.rows),
                "axes": [label(point.axes[key]) if key in point.axes else "" for key in keys],
                "cells": [_cell(point.estimates[name], digits[name]) if name in digits else None for name in columns],
                "front": point.group in front,
                "against": against,
                "best": against is not None and against.relation is None,
            }
        )
    return lines


def _cell(estimate: Estimate, digits: int) -> tuple[float, str]:
    """A number to sort by, and as it is shown: what is large short."""

    def written(value: float) -> str:
        return short(value) if math.isfinite(value) and abs(value) >= 10_000 else fixed(value, digits)

    return estimate.value, spread(estimate, written, digits)


def _protocols(rows: Sequence[Row]) -> dict[str, Any]:
    protocols: dict[str, Any] = {}
    for row in rows:
        protocols |= row.get("protocols") or {}
    return protocols
