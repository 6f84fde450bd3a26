"""Comparing results of several runs, which only the same protocol allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from swm.checkpoint.saving import REPORT
from swm.errors import RecipeError
from swm.files.private_paths import last_part
from swm.files.typed_json import check, read_json
from swm.measure.comparable import check_one_protocol
from swm.measure.metrics import PERPLEXITY, SHARE, Metric
from swm.paths import expanded, is_folder
from swm.report.record import (
    ComparedOriginal,
    ComparedRun,
    ComparedSize,
    ModelScores,
    NamedScore,
    Perplexity,
    TaskScores,
)
from swm.report.summary import Measured, mean_name, mean_of, metric_of_scores, scale_of_named, scaled

DENSE = "dense"


@dataclass(frozen=True)
class Result:
    """What one run or one `swm evaluate --json` measured of one model. `dense` is the original one of a run."""

    name: str
    parameters: int | None
    perplexity: Perplexity | None
    tasks: TaskScores | None
    measures: Mapping[str, NamedScore] = field(default_factory=dict)
    active_parameters: int | None = None
    layers: int | None = None
    dense: Result | None = None
    model: str = ""
    """What says which model it is: the fingerprint of the original one of a run."""


def read_result(path: str | Path) -> Result:
    """The result in an output folder, a report.json, or what `swm evaluate --json` printed.

    Raises RecipeError that names the file when there is none.
    """
    place = expanded(path)
    file = place / REPORT if is_folder(place) else place
    name = place.name or str(path) if is_folder(place) else file.stem
    data = read_json(file, "report", RecipeError)
    if not isinstance(data, Mapping) or not {"perplexity", "tasks", "measures"} & data.keys():
        raise RecipeError(
            f"{file} holds neither a perplexity nor tasks nor measures: it is no report of swm with an evaluation"
        )
    if "compressed" not in data:
        scores = check(ModelScores, data, str(file), RecipeError)
        size = check(ComparedOriginal, data.get("size") or {}, str(file), RecipeError)
        return _result(name, size, scores)
    run = check(ComparedRun, data, str(file), RecipeError)
    dense = _result(DENSE, run.model, run.of("dense"))
    own = _result(name, run.compressed, run.of("compressed"))
    return replace(own, dense=replace(dense, model=run.model.fingerprint or f"{run.model.source} {file}"))


def _result(name: str, size: ComparedSize | ComparedOriginal, scores: ModelScores) -> Result:
    return Result(
        name,
        size.parameters,
        scores.perplexity,
        scores.tasks,
        scores.measures,
        size.active_parameters,
        size.layers,
    )


def columns(results: Sequence[Result], paths: Sequence[str | Path]) -> list[Result]:
    """The results with names that tell them apart, and before them the original models that they were made of.

    Runs that were made of one model share a column, which has what any of them measured of it. `paths` are those that
    the results were read from; where two have one name, they are called by their paths.
    """
    dense: dict[str, Result] = {}
    for of_run in (result.dense for result in results if result.dense is not None):
        known = dense.setdefault(of_run.model, of_run)
        dense[of_run.model] = replace(
            known,
            perplexity=known.perplexity or of_run.perplexity,
            tasks=known.tasks or of_run.tasks,
            measures={**of_run.measures, **known.measures},
        )
    originals = list(dense.values())
    if len(originals) > 1:
        made = {result.dense.model: result.name for result in reversed(results) if result.dense is not None}
        originals = [replace(one, name=f"{DENSE} of {made[one.model]}") for one in originals]
    names = [result.name for result in results]
    own = [
        replace(result, name=str(path)) if names.count(result.name) > 1 or result.name == DENSE else result
        for result, path in zip(results, paths, strict=True)
    ]
    return [*originals, *own]


class Compared(NamedTuple):
    """A measure with its value for each result, as it is shown: shares in percent."""

    name: str
    scale: Metric
    values: list[Measured | None]


def compare(results: Sequence[Result]) -> list[Compared]:
    """Rows of the sizes that are known, and of the measures that any of the results has.

    Raises RecipeError that names the difference when two of them were not measured by one protocol.
    """
    protocols = {
        "perplexity": [(result.name, result.perplexity.protocol) for result in results if result.perplexity],
        "tasks": [(result.name, result.tasks.protocol) for result in results if result.tasks],
    }
    for kind, of_kind in protocols.items():
        check_one_protocol(kind, [(name, _without_folders(protocol)) for name, protocol in of_kind], RecipeError)
    rows = _sizes(results)
    if protocols["perplexity"]:
        rows.append(Compared("perplexity", PERPLEXITY, [scaled(r.perplexity, PERPLEXITY) for r in results]))
    names = dict.fromkeys(name for result in results if result.tasks for name in result.tasks.tasks)
    alike = []
    for name in names:
        of_task = [result.tasks.tasks.get(name) if result.tasks else None for result in results]
        scale = metric_of_scores(filter(None, of_task))
        rows.append(Compared(name, scale, [scaled(score, scale) for score in of_task]))
        alike += [name] if scale.averaged else []
    if len(alike) > 1:
        means = [mean_of(result.tasks, alike) if result.tasks else None for result in results]
        rows.append(Compared(mean_name(len(alike), len(names)), SHARE, [scaled(mean, SHARE) for mean in means]))
    return [*rows, *_named(results)]


def _named(results: Sequence[Result]) -> Iterator[Compared]:
    """The numbers of measures. Raises RecipeError when two of one name were not measured by one protocol."""
    for name in dict.fromkeys(name for result in results for name in result.measures):
        scores = {result.name: result.measures[name] for result in results if name in result.measures}
        protocols = [(who, _without_folders(score.protocol)) for who, score in scores.items()]
        check_one_protocol(name, protocols, RecipeError)
        scale = scale_of_named(name, scores.values())
        yield Compared(name, scale, [scaled(result.measures.get(name), scale) for result in results])


def _sizes(results: Sequence[Result]) -> list[Compared]:
    """The parameters, those that a token passes where a model has experts, and the layers, as far as they are known."""
    counts = {
        "parameters": [result.parameters for result in results],
        "active parameters": [result.active_parameters for result in results],
        "layers": [result.layers for result in results],
    }
    return [
        Compared(name, Metric(name, None, decimals=0), [None if n is None else Measured(n) for n in of_all])
        for name, of_all in counts.items()
        if any(n is not None for n in of_all)
    ]


def _without_folders(value: Any) -> Any:
    """The protocol with the names of files alone, as reports have them; `swm evaluate` prints whole paths."""
    if isinstance(value, Mapping):
        return {key: _without_folders(item) for key, item in value.items()}
    return last_part(value) if isinstance(value, str) else value
