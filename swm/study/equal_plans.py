"""Runs whose plans are equal: the second takes what was measured of the first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from swm.files import json_text as jsontext
from swm.interfaces.executor import Job, Row
from swm.model.view import ModelView
from swm.plan.fitted import fitted_hash
from swm.plan.plan import Plan
from swm.recipe.recipe import Recipe
from swm.run.pipeline import CompressionPipeline
from swm.run.preparation import Prepared
from swm.study.inputs import is_current
from swm.study.journal import Journal

# What a row has of the run whose plan is equal.
RESULTS = ("measures", "metrics", "items", "protocols", "rejected")


class EqualPlanError(Exception):
    """Ends a run whose plan an earlier run carried out: `row` is that run's, `plan` the plan."""

    def __init__(self, row: Row, plan: Plan) -> None:
        super().__init__(row["name"])
        self.row = row
        self.plan = plan


@dataclass
class PlannedOnce(CompressionPipeline):
    """A run that ends with EqualPlanError where `known` has a row for its plan."""

    known: Callable[[Plan], Row | None] = lambda plan: None

    def decide(self, ready: Prepared, view: ModelView, apply_last: bool) -> Plan:
        """Plan the stages; nothing is measured where the plan is known."""
        plan = super().decide(ready, view, apply_last)
        row = self.known(plan)
        if row is not None:
            raise EqualPlanError(row, plan)
        return plan


def plan_digest(plan: Plan, recipe: Recipe) -> str:
    """What the result of a run depends on, once it is planned: the same for two runs with the same result.

    It covers the original weights, the steps with their fitted tensors, what is measured and what must be kept. Where a
    step trains, it also covers the settings of its stage, its place, the calibration and the seed.
    """
    steps = [{step.name: step.to_plan()} for stage in plan.stages for step in stage.steps]
    starts, tensors = 0, dict[str, Tensor]()
    for stage in plan.stages:
        tensors |= {f"{starts + i}.{k}": value for i, each in stage.tensors.items() for k, value in each.items()}
        starts += len(stage.steps)
    trained = [
        [i, stage.stage, dict(stage.settings)]
        for i, stage in enumerate(plan.stages)
        if any(step.needs_data for step in stage.steps)
    ]
    resolved = recipe.resolved()
    content = {
        "model": [plan.model["fingerprint"], plan.model["dtype"]],
        "steps": steps,
        "fitted": fitted_hash(tensors) if tensors else "",
        "trained": [trained, dict(plan.calibration), plan.seed] if trained else [],
        "measured": [resolved.get("evaluate"), resolved.get("accept")],
    }
    return hashlib.sha256(json.dumps(json.loads(jsontext.dumps(content)), sort_keys=True).encode()).hexdigest()[:16]


def known_rows(job: Job, recipe: Recipe) -> Callable[[Plan], Row | None]:
    """Finds the row of an earlier run of the study that had the same plan, and read files that have not changed."""

    def earlier(plan: Plan) -> Row | None:
        digest, folder = plan_digest(plan, recipe), Path(job["folder"])
        for row in Journal(folder).rows():
            same = row["state"] == "done" and row.get("plan") == digest and row["dense"] == job["dense"]
            if same and row["id"] != job["id"] and not row.get("same_as") and _agrees(row, job["inputs"], folder):
                return row
        return None

    return earlier


def _agrees(row: Row, now: Mapping[str, str], folder: Path) -> bool:
    then = row.get("inputs") or {}
    return is_current(row, {name: now[name] for name in then if name in now}, folder)


def taken(row: Row, plan: Plan, recipe: Recipe) -> dict[str, Any]:
    """What a row says of a run whose plan is equal to that of another row."""
    return {
        "state": "done",
        **{key: row[key] for key in RESULTS if row.get(key)},
        "removed_layers": recipe.by_entry([stage.facts.get("achieved", {}).get("layers", 0) for stage in plan.stages]),
        "notes": [f"the plan is that of run {row['id']}, whose result this is"],
        "plan": row["plan"],
        "same_as": row["id"],
    }
