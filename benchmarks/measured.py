"""Copies what quality.py measured to where `swm auto` reads it: swm/choosing/measured.json.

    python benchmarks/measured.py

A row becomes its result, in times of the original perplexity, the share of the layers' parameters that went, and the
seconds of its stages, those that came from the cache of an earlier row included.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from row_stages import whole_seconds

ROWS = Path(__file__).with_name("rows") / "quality.jsonl"
MEASURED = Path(__file__).parent.parent / "swm" / "choosing" / "measured.json"
# Of the model of all rows; one of them is this many layers smaller.
LAYERS, SMALLER = 30, ("last | 6 layers", 6)


def measured(file: Path = ROWS) -> dict[str, Any]:
    """The rows of the file that have a result, by name, without the original model."""
    rows = {row["key"]: row for row in map(json.loads, file.read_text().splitlines())}
    dense = rows.pop("dense")
    name, count = SMALLER
    of_layers = LAYERS * (dense["parameters"] - rows[name]["parameters"]) / count
    return {
        name: {
            "times": round(row["perplexity"]["value"] / dense["perplexity"]["value"], 4),
            "gone": round((dense["parameters"] - row["parameters"]) / of_layers, 4),
            "seconds": _of_stages(whole_seconds(row, rows)),
        }
        for name, row in sorted(rows.items())
        if "perplexity" in row
    }


def _of_stages(seconds: dict[str, float]) -> dict[str, float]:
    """By the number and name of a stage, what its plan and its changes took together."""
    stages: dict[str, float] = {}
    for part, value in seconds.items():
        what, _, stage = part.partition(" ")
        if what in ("stage", "perform"):
            stages[stage] = round(stages.get(stage, 0.0) + value, 1)
    return stages


if __name__ == "__main__":
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in measured().items())
    MEASURED.write_text(f"{{\n{lines}\n}}\n")
    print(f"wrote {MEASURED}")
