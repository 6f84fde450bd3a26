"""Saving a model object that pieces have changed, with the check in a fresh process, and applying a plan to one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from swm.checkpoint.export import check_layout
from swm.checkpoint.layout import LAYOUTS, Layout
from swm.checkpoint.level import FULL, Verify
from swm.checkpoint.saving import check_output
from swm.errors import ModelError, PlanError, at, quoted, unknown
from swm.loading.source import ModelSource
from swm.loading.tokenizer import load_tokenizer
from swm.model.shape import shape_now
from swm.pieces.workpiece import Workpiece
from swm.plan.diff import diff_plans
from swm.plan.history import history_of
from swm.plan.plan import Plan
from swm.plan.reading import read_plan
from swm.plugins.guarding import no_exit
from swm.plugins.loading import load_plugins
from swm.report.builder import ReportBuilder
from swm.run.result import RunResult
from swm.run.saving import PROBE_SAMPLES, PROBE_TOKENS, OutputFolder


@no_exit()
def save(
    model: Any,
    tokenizer: Any,
    folder: str | Path,
    *,
    plan: Plan | Sequence[Plan] | None = None,
    layout: Layout = "native",
    overwrite: bool = False,
    verify: Verify = FULL,
    plugin_files: Sequence[str] = (),
) -> RunResult:
    """Save a model object as a run saves its result: load it again in a fresh process, and compare.

    Args:
        model: The model object, as pieces or a run without an output left it; it stays as it is.
        tokenizer: Its tokenizer, or the processor of a model of images and text.
        folder: The folder to write.
        plan: What was done to the model: what a piece returned, or several of them in their order. It must be all that
            was done; without it, it is what is noted on the model.
        layout: How the result is saved, as in a recipe: layers of different widths need `padded` or `custom`.
        overwrite: Whether a folder of swm may be replaced.
        verify: How thoroughly the folder is checked: `full`, `fast` or `none`, as in a recipe.
        plugin_files: Python files with strategies, where the plan has some.

    Returns:
        The model, its plan, the report and the folder.

    Raises:
        SwmError: For a folder, a layout or a plan that cannot be used.
        CheckpointError: When the reloaded model differs.
    """
    if layout not in LAYOUTS:
        raise PlanError(unknown("layout", layout, LAYOUTS), ("layout",))
    if verify not in get_args(Verify):
        raise PlanError(unknown("level", verify, get_args(Verify)), ("verify",))
    with at("folder"):
        target = check_output(folder, overwrite)
    if tokenizer is None:
        raise ModelError("found None; a folder without a tokenizer is no use to anybody, give it one", ("tokenizer",))
    work = Workpiece.of(model, load_plugins(plugin_files), tokenizer)
    given, view = work.given, work.copy()
    noted = history_of(model)
    done = noted.plan if noted is not None else work.nothing_done(view)
    if plan is not None:
        _check_plan(plan, done)
    with at("layout"):
        check_layout(view, layout, "layout=")
        source = ModelSource(done.model["source"], given.folder, given=given)
        beside = LAYOUTS[layout].read_tokenizer(view, load_tokenizer(source, config=given.config))
    report = ReportBuilder.begin(done.model, done.seed, done.calibration)
    report.add_in_memory(["model"])
    report.add_stages(done.stages, count_steps=False)
    report.add_compressed(view, shape_now(view) if noted is None else noted.shape)
    changes = () if noted is None else noted.changes(view, "it was saved")
    report.add_notes([*done.notes, *changes, *beside])
    generator = torch.Generator().manual_seed(done.seed)
    ids = torch.randint(0, view.config.vocab_size, (PROBE_SAMPLES, PROBE_TOKENS), generator=generator)
    about = (layout, overwrite, False, None, verify, given.tensors())
    OutputFolder(target, given.folder, *about).save(view, ids, done, report)
    return RunResult(model, tokenizer, done, report.data, target)


@no_exit()
def apply_plan(model: Any, plan: Plan | str | Path, *, plugin_files: Sequence[str] = ()) -> Plan:
    """Do to a model object what a plan says, in the object itself.

    Args:
        model: A model object of transformers with the very numbers that the plan was made for.
        plan: The plan or its file, without trainings, which no plan can repeat.
        plugin_files: Python files with model families and with what the plan needs.

    Returns:
        The plan.

    Raises:
        PlanError: The plan is for another model, or a step does not fit; the model is as it was then.
    """
    plugins = load_plugins(plugin_files)
    work = Workpiece.of(model, plugins)
    with at("plan"):
        if isinstance(plan, str | Path):
            plan = read_plan(Path(plan), plugins.registry)
        if not isinstance(plan, Plan):
            raise PlanError(f"found {quoted(plan)}; a plan, or the file of one, stands here")
    return work.repeat(plan)


def _check_plan(plan: Plan | Sequence[Plan], done: Plan) -> None:
    """Raise PlanError for a plan of something else than what was done to the model."""
    with at("plan"):
        joined = plan if isinstance(plan, Plan) else Plan.joined(list(plan))
        if joined.model.get("fingerprint") != done.model["fingerprint"] and not done.stages:
            raise PlanError(
                "nothing is noted on this model object of what was done to it, so no plan can be checked; change it by "
                "the pieces of swm, or load the original and give it the plan: swm.apply_plan(model, plan)"
            )
        differs = diff_plans(done, joined)
        if differs:
            raise PlanError(f"what was done to the model is not what the plan says: {differs[0]}")
