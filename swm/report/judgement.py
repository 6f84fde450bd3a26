"""Whether the numbers of a report keep the limits that its recipe sets."""

from __future__ import annotations

import math
from typing import Any

from swm.measure.acceptance import Acceptance, MeasureLimit
from swm.measure.metrics import format_number
from swm.report.record import Measures
from swm.report.summary import MeasureRow, named_rows, perplexity_row, task_rows


def judge(limits: Acceptance, measures: Measures) -> dict[str, Any]:
    """What the report says of it: `accepted`, and of each measure its ratio to the original, the limit and a verdict.

    A ratio that is no number, because nothing was measured or the original scores nothing, keeps no limit.
    """
    verdicts: dict[str, dict[str, Any]] = {}
    for name, limit in limits.limits().items():
        row = perplexity_row(measures) if name == "perplexity" else _tasks(task_rows(measures))
        ratio = None if row is None or row.ratio is None or math.isnan(row.ratio) else row.ratio
        accepted = ratio is not None and limit.holds(ratio)
        verdicts[name] = {"ratio": ratio, "limit": str(limit), "accepted": accepted}
    rows = {row.name: row for row in named_rows(measures)}
    verdicts |= {name: _named(limit, rows.get(name)) for name, limit in limits.measure_limits().items()}
    return {"accepted": all(verdict["accepted"] for verdict in verdicts.values()), **verdicts}


def _named(limit: MeasureLimit, row: MeasureRow | None) -> dict[str, Any]:
    """The verdict on a number of a measure: its ratio to the original's, or the number itself."""
    number = None if row is None else row.ratio
    if limit.absolute:
        number = None if row is None or row.compressed is None else row.compressed.value / row.scale.factor
    number = None if number is None or math.isnan(number) else number
    accepted = number is not None and limit.holds(number)
    return {"value" if limit.absolute else "ratio": number, "limit": str(limit), "accepted": accepted}


def missed(judgement: dict[str, Any]) -> str:
    """The limits that were missed, in a line; empty where all were kept."""
    rest = {name: verdict for name, verdict in judgement.items() if name != "accepted" and not verdict["accepted"]}
    return "; ".join(f"{name} is {_reached(verdict)}, {verdict['limit']} is accepted" for name, verdict in rest.items())


def _reached(verdict: dict[str, Any]) -> str:
    if "value" in verdict:
        return "not known" if verdict["value"] is None else f"{verdict['value']:.6g}"
    ratio: float | None = verdict["ratio"]
    return "not known" if ratio is None else f"{format_number(ratio, 3)} times the original's"


def _tasks(rows: list[MeasureRow]) -> MeasureRow | None:
    """The average of the tasks, or the only one."""
    return rows[-1] if rows and (len(rows) == 1 or not rows[-1].metric) else None
