"""Comparing results of several runs, which only the same protocol allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from swm.checkpoint.saving import REPORT
from swm.errors import RecipeError
from swm.files.published import name_of
from swm.files.typed_json import check, read_json
from swm.measure.metrics import PERPLEXITY, SHARE, Metric, metric_of
from swm.report.record import ModelReport, RunReport
from swm.report.summary import Measured, TaskResults, mean_name, mean_of


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
    data = read_json(file, "report", RecipeError)
    if not isinstance(data, Mapping) or not {"perplexity", "tasks"} & data.keys():
        raise RecipeError(f"{file} holds neither a perplexity nor tasks: it is no report of swm with an evaluation")
    ran = "compressed" in data
    check(RunReport if ran else ModelReport, data, str(file), RecipeError)
    perplexity, tasks = (data.get(name) or {} for name in ("perplexity", "tasks"))
    return Result(
        Path(path).name if Path(path).is_dir() else file.stem,
        data["compressed"]["parameters"] if ran else None,
        (perplexity.get("compressed") if ran else perplexity) or None,
        (tasks.get("compressed") if ran else tasks) or None,
    )


class Compared(NamedTuple):
    """A measure with its value for each result, as it is shown: shares in percent."""

    name: str
    scale: Metric
    values: list[Measured | None]


def compare(results: Sequence[Result]) -> list[Compared]:
    """Rows of the measures that any of the results has.

    Raises RecipeError that names the difference when two of them were not measured by one protocol.
    """
    for kind in ("perplexity", "tasks"):
        have = [(result.name, getattr(result, kind)) for result in results if getattr(result, kind)]
        for name, found in have[1:]:
            _check_protocols(kind, have[0][0], have[0][1]["protocol"], name, found["protocol"])
    rows: list[Compared] = []
    if any(result.perplexity for result in results):
        values = [Measured.of(r.perplexity) if r.perplexity else None for r in results]
        rows.append(Compared("perplexity", PERPLEXITY, values))
    measured = [r.tasks and TaskResults.of(r.tasks) for r in results]
    names = dict.fromkeys(name for found in measured if found for name in found.tasks)
    alike = []
    for name in names:
        of_task = [found.tasks.get(name) if found else None for found in measured]
        scale = metric_of(filter(None, of_task))
        rows.append(Compared(name, scale, [_scaled(one, scale) for one in of_task]))
        alike += [name] if scale.averaged else []
    if len(alike) > 1:
        means = [mean_of(found, alike) if found else None for found in measured]
        rows.append(Compared(mean_name(len(alike), len(names)), SHARE, [_scaled(mean, SHARE) for mean in means]))
    return rows


def _scaled(found: Mapping[str, Any] | None, scale: Metric) -> Measured | None:
    return None if found is None else Measured.of(found).times(scale.factor)


def _named(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _named(item) for key, item in value.items()}
    return name_of(value) if isinstance(value, str) else value


def _check_protocols(kind: str, one: str, mine: Mapping[str, Any], other: str, theirs: Mapping[str, Any]) -> None:
    # Reports name files alone, older ones and what `swm evaluate` printed may have whole paths.
    mine, theirs = ({key: _named(value) for key, value in protocol.items()} for protocol in (mine, theirs))
    for key in dict.fromkeys([*mine, *theirs]):
        if mine.get(key) != theirs.get(key):
            values = f"{key} is {mine.get(key)!r} and {theirs.get(key)!r}"
            raise RecipeError(f"{kind} of '{one}' and '{other}' cannot be compared: {values}")
