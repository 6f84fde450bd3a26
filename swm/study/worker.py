"""One run of a study, in any process: it takes a job, gives a row, and leaves its files in the study's folder."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swm.cache.shared import shared_observations
from swm.checkpoint.saving import REPORT
from swm.errors import PluginError, StudyError, SwmError, at
from swm.files.scratch import clear_dead, scratch
from swm.files.typed_json import check, read_json
from swm.files.writing import write_json, write_yaml
from swm.interfaces.executor import Job, Row
from swm.interfaces.progress import Progress
from swm.measure.evaluator import make_evaluator
from swm.model.view import ModelView
from swm.plugins.loading import Plugins, load_plugins
from swm.recipe.building import build_recipe
from swm.recipe.recipe import Recipe
from swm.report.builder import write_report
from swm.report.record import DenseReport, ModelScores, ModelSize, RunReport
from swm.run.preparation import prepare
from swm.study.equal_plans import EqualPlanError, PlannedOnce, known_rows, plan_digest, taken
from swm.study.inputs import is_current
from swm.study.journal_row import JournalRow
from swm.study.measures import items_of, measures_of, metrics_of, protocols_of
from swm.study.run_progress import reported
from swm.study.runs import IDENTITY

ROW = "row.json"


def carry_out(job: Job) -> Row:
    """The row of a job: what was measured, or why not. What is on the disk already is not done again."""
    folder = Path(job["folder"]) / "runs" / job["id"]
    done = _finished_row(folder, job)
    if done is not None:
        return done
    start = time.perf_counter()
    row: dict[str, Any] = {key: job[key] for key in IDENTITY}
    try:
        clear_dead(folder.parent)
        about = (Path(job["folder"]), job["id"], job["name"])
        with reported(*about) as progress, scratch(folder.parent, indexed=True) as place:
            fresh = place.new / job["id"]
            fresh.mkdir()
            plugins = load_plugins(job["plugins"])
            kept = {"output": str(fresh / "model"), "verify": job["verify"]}
            output = kept if job["keep_models"] and job["kind"] != "dense" else {}
            recipe = build_recipe({**job["recipe"], **output}, plugins)
            if job["kind"] == "dense":
                row |= _dense(recipe, plugins, fresh, progress)
            else:
                row |= _run(recipe, plugins, job, fresh, progress)
            row["inputs"] = job["inputs"]
            row["seconds"] = round(time.perf_counter() - start, 1)
            write_json(fresh / ROW, row)
            if folder.exists():
                # Its row is of other states of the files.
                shutil.rmtree(folder)
            fresh.rename(folder)
    except (Exception, SystemExit) as error:  # whatever happens in one run must not stop the others
        known = isinstance(error, SwmError)
        message = str(error) if known else f"{type(error).__name__}: {error}"
        row |= {"state": "failed", "error": message, "seconds": round(time.perf_counter() - start, 1)}
        if not known or (isinstance(error, PluginError) and error.__cause__ is not None):
            row["traceback"] = traceback.format_exc()
    return row


def _finished_row(folder: Path, job: Job) -> Row | None:
    """The row of a run that was done before on the same files; None when there is none."""
    if not (folder / ROW).is_file():
        return None
    row: Row = read_json(folder / ROW, "row", StudyError)
    check(JournalRow, row, str(folder / ROW), StudyError)
    return row if is_current(row, job["inputs"], Path(job["folder"])) else None


def _run(recipe: Recipe, plugins: Plugins, job: Job, folder: Path, progress: Progress) -> dict[str, Any]:
    """Run a recipe and measure the compressed model, unless an earlier run had the same plan.

    Args:
        recipe: The recipe.
        plugins: What its strategies come from.
        job: The job, with the study's folder and the id of the original model's measurement.
        folder: Where the plan, the recipe and the report are written.
        progress: Where the steps of the run are shown.

    Returns:
        What the row says of the results.
    """
    observations = shared_observations() if job["cache"] else None
    pipeline = PlannedOnce(recipe, plugins, progress, observations=observations)
    if not job["keep_models"]:
        pipeline.known = known_rows(job, recipe)
    dense = Path(job["folder"]) / "runs" / job["dense"] / REPORT
    if dense.is_file():
        pipeline.dense = read_json(dense, "report", StudyError)
        check(DenseReport, pipeline.dense, str(dense), StudyError)
    try:
        result = pipeline.run()
    except EqualPlanError as equal:
        write_yaml(folder / "plan.yaml", equal.plan.to_data())
        write_yaml(folder / "recipe.yaml", recipe.resolved())
        return {**taken(equal.row, equal.plan, recipe), "took": _rounded(pipeline.seconds)}
    if not job["keep_models"]:
        # Without the tensors of a fit, which are as large as the model.
        write_yaml(folder / "plan.yaml", result.plan.to_data())
        write_yaml(folder / "recipe.yaml", recipe.resolved())
        write_report(result.report, folder)
    report = RunReport.model_validate(result.report)
    return {
        **_measured(report.compressed, report.model, report.of("compressed"), result.speed),
        "removed_layers": recipe.by_entry(
            [stage.facts.get("achieved", {}).get("layers", 0) for stage in report.stages]
        ),
        "notes": report.notes,
        **({"rejected": result.rejected} if result.rejected else {}),
        "took": _rounded(pipeline.seconds),
        "plan": plan_digest(result.plan, recipe),
    }


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in seconds.items()}


def _dense(recipe: Recipe, plugins: Plugins, folder: Path, progress: Progress) -> dict[str, Any]:
    """Measure the original model, once for all runs that are compared with it.

    Args:
        recipe: The recipe.
        plugins: What its strategies come from.
        folder: Where the report is written.
        progress: Where the steps are shown.
    """
    ready = prepare(recipe, plugins, progress, overwrite=False)
    with at("model"):
        view = ModelView(ready.original.load(), ready.family)
    with at("evaluate"):
        evaluator = make_evaluator(recipe.evaluate, ready.tokenizer, ready.config, progress)
    measured = dict(evaluator.measure(view.model, "dense"))
    write_report({"fingerprint": view.fingerprint(), **measured}, folder)
    size = ModelSize(
        parameters=ready.shape.parameters,
        layers=ready.shape.layers,
        active_parameters=ready.shape.active_parameters,
    )
    return {
        **_measured(size, size, ModelScores.model_validate(measured), {}),
        "removed_layers": [],
        "notes": [],
        "took": {},
    }


def _measured(size: ModelSize, original: ModelSize, scores: ModelScores, speed: Mapping[str, Any]) -> dict[str, Any]:
    """What the row of a finished run says of its measurements.

    Args:
        size: Parameters and layers of the measured model.
        original: Those of the original model.
        scores: What was measured of the model.
        speed: Its speed beside that of the original model; empty where it was not measured.
    """
    return {
        "state": "done",
        "measures": measures_of(size, original, scores, speed),
        "metrics": metrics_of(scores),
        "items": items_of(scores),
        "protocols": protocols_of(scores),
    }
