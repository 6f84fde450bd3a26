"""The results of a study as plain data, for `--json`."""

from __future__ import annotations

from typing import Any

from swm.study.results import Results
from swm.study.table import tidy


def results_data(results: Results) -> dict[str, Any]:
    """The verdicts, every test behind them, and the table."""
    pairs = [
        {
            "budget": [verdict.low, verdict.high],
            "one": pair.one.name,
            "other": pair.other.name,
            "better_by": pair.difference.better_by,
            "error": pair.difference.error,
            "p": pair.difference.p,
            "p_corrected": pair.p,
            "says": f"{pair.one.name} {pair.relation(pair.one.group)} {pair.other.name}",
        }
        for verdict in results.verdicts
        for pair in verdict.pairs
    ]
    return {
        "rank_by": results.rank_by,
        "verdicts": [verdict.sentence for verdict in results.verdicts],
        "pairs": pairs,
        "runs": tidy(results.rows, results.best),
        "problems": list(results.problems),
    }
