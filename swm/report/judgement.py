"""Whether the numbers of a report keep the limits that its recipe sets."""

from __future__ import annotations

import math
from typing import Any

from swm.measure.acceptance import Acceptance
from swm.measure.metrics import format_number
from swm.report.record import Measures
from swm.report.summary import MeasureRow, perplexity_row, task_rows


def judge(limits: Acceptance, measures: Measures) -> dict[str, Any]:
    """What the report says of it: `accepted`, and of each measure its ratio to the original, the limit and a verdict.

    A ratio that is no number, because nothing was measured or the original scores nothing, keeps no limit.
    """
    verdicts = {}
    for name, limit in limits.limits().items():
        row = perplexity_row(measures) if name == "perplexity" else _tasks(task_rows(measures))
        ratio = None if row is None or row.ratio is None or math.isnan(row.ratio) else row.ratio
        accepted = ratio is not None and limit.holds(ratio)
        verdicts[name] = {"ratio": ratio, "limit": str(limit), "accepted": accepted}
    return {"accepted": all(verdict["accepted"] for verdict in verdicts.values()), **verdicts}


def missed(judgement: dict[str, Any]) -> str:
    """The limits that were missed, in a line; empty where all were kept."""
    rest = {name: verdict for name, verdict in judgement.items() if name != "accepted" and not verdict["accepted"]}
    return "; ".join(
        f"{name} is {_times(verdict['ratio'])}, {verdict['limit']} is accepted" for name, verdict in rest.items()
    )


def _times(ratio: float | None) -> str:
    return "not known" if ratio is None else f"{format_number(ratio, 3)} times the original's"


def _tasks(rows: list[MeasureRow]) -> MeasureRow | None:
    """The average of the tasks, or the only one."""
    return rows[-1] if rows and (len(rows) == 1 or not rows[-1].metric) else None
