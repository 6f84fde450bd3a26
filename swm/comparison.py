"""Comparing results of several runs, which only the same protocol allows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swm.checkpoint import REPORT
from swm.errors import RecipeError, nearest_file
from swm.summary import Measured, TaskResults


@dataclass(frozen=True)
class Result:
    """What one run or one `swm evaluate --json` measured of one model."""

    name: str
    parameters: int | None
    perplexity: Mapping[str, Any] | None
    tasks: Mapping[str, Any] | None


def read_result(path: str | Path) -> Result:
    """The result in an output folder, a report.json, or what `swm evaluate --json` printed.

    Raises RecipeError that names the file when there is none.
    """
    file = Path(path) / REPORT if Path(path).is_dir() else Path(path)
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RecipeError(f"{file} cannot be read: {error}.{nearest_file(file)}") from None
    if not isinstance(data, Mapping) or not {"perplexity", "tasks"} & data.keys():
        raise RecipeError(f"{file} holds neither a perplexity nor tasks: it is no report of swm with an evaluation")
    ran = "compressed" in data
    perplexity, tasks = (data.get(name, {}) for name in ("perplexity", "tasks"))
    return Result(
        Path(path).name if Path(path).is_dir() else file.stem,
        data["compressed"]["parameters"] if ran else None,
        (perplexity.get("compressed") if ran else perplexity) or None,
        (tasks.get("compressed") if ran else tasks) or None,
    )


def compare(results: Sequence[Result]) -> list[tuple[str, list[Measured | None]]]:
    """Rows of the measures that any of the results has: a name, and a value for each result.

    Raises RecipeError that names the difference when two of them were not measured by one protocol.
    """
    for kind in ("perplexity", "tasks"):
        have = [(result.name, getattr(result, kind)) for result in results if getattr(result, kind)]
        for name, found in have[1:]:
            _check_protocols(kind, have[0][0], have[0][1]["protocol"], name, found["protocol"])
    rows: list[tuple[str, list[Measured | None]]] = []
    if any(result.perplexity for result in results):
        rows.append(("perplexity", [Measured.of(r.perplexity) if r.perplexity else None for r in results]))
    names = dict.fromkeys(name for r in results if r.tasks for name in r.tasks["tasks"])
    for name in names:
        rows.append((name, [_percent(r.tasks["tasks"].get(name)) if r.tasks else None for r in results]))
    if len(names) > 1:
        means = [_percent(TaskResults(**r.tasks).average) if r.tasks else None for r in results]
        rows.append((f"average of {len(names)} tasks", means))
    return rows


def _percent(found: Mapping[str, Any] | None) -> Measured | None:
    return None if found is None else Measured.of(found).times(100)


def _check_protocols(kind: str, one: str, mine: Mapping[str, Any], other: str, theirs: Mapping[str, Any]) -> None:
    for key in dict.fromkeys([*mine, *theirs]):
        if mine.get(key) != theirs.get(key):
            values = f"{key} is {mine.get(key)!r} and {theirs.get(key)!r}"
            raise RecipeError(f"{kind} of '{one}' and '{other}' cannot be compared: {values}")
