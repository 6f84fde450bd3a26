"""Replaying a plan on the original checkpoint, without data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from swm.checkpoint import saving as checkpoint
from swm.checkpoint.companions import check_companions
from swm.checkpoint.export import check_layout
from swm.checkpoint.layout import LAYOUTS, Layout
from swm.checkpoint.level import FULL, Verify
from swm.derivation.known_model import known_model
from swm.errors import ModelError, PlanError, at
from swm.files.outputs import check_apart, check_inputs
from swm.interfaces.progress import Progress, usual_progress
from swm.loading import models
from swm.model.shape import shape_now
from swm.model.text_config import text_config
from swm.model.view import ModelView
from swm.plan.needs import check_needs
from swm.plan.plan import Plan
from swm.plan.rehearsal import apply_plan, rehearse
from swm.plugins.loading import Plugins
from swm.plugins.needs import PluginNeeds
from swm.report.builder import ReportBuilder
from swm.run.memory_plan import plan_memory
from swm.run.result import RunResult
from swm.run.retokenizing import cut_tokenizer
from swm.run.saving import PROBE_SAMPLES, PROBE_TOKENS, OutputFolder


def replay(
    plan: Plan,
    plugins: Plugins,
    output: str,
    *,
    model: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    device: str = "auto",
    layout: Layout = "native",
    memory: str | int | None = None,
    trust_remote_code: bool = False,
    structure_only: bool = False,
    inputs: Sequence[str | Path] = (),
    verify: Verify = FULL,
) -> RunResult:
    """Apply a plan to the original checkpoint, without data.

    Args:
        plan: The plan.
        plugins: The strategies and families that are known.
        output: The folder to write.
        model: The original model; None for the one that the plan names.
        overwrite: Whether an output folder of swm may be replaced.
        progress: Shows what takes long; None for nothing.
        device: `auto`, or a device of torch.
        layout: How the result is saved, as in a recipe.
        memory: How much may be taken beside what lies in files, as in a recipe.
        trust_remote_code: Whether the model's own code may run.
        structure_only: Leave out trainings, which no plan can repeat.
        inputs: Files, such as the plan's own, that must not lie in the output folder.
        verify: How the saved folder is checked, as in a recipe.

    Returns:
        The model, with the plan that was applied and a report.

    Raises:
        PlanError: When the plan was made for another model, or has a training and `structure_only` is not given.
        CheckpointError: For a layout that cannot hold the result.
    """
    progress = progress or usual_progress()
    trained = [i for i, stage in enumerate(plan.stages) if any(step.needs_data for step in stage.steps)]
    if trained and not structure_only:
        raise PlanError(
            f"stage {trained[0]} of the plan is a training, which needs its text; run the recipe for the same model, "
            "or use --structure-only for the model without it"
        )
    plan = replace(plan, stages=[stage for i, stage in enumerate(plan.stages) if i not in trained])
    check_needs(PluginNeeds(plan.plugins, plugins.registry), "the plan", () if model is None else ("model",))
    target = checkpoint.check_output(output, overwrite)
    check_inputs(target, [model or plan.model["source"]], [*plugins.files, *inputs])
    source = _original(plan, model, plugins, progress)
    config = models.load_config(source, trust_remote_code)
    known = known_model(config, plugins.registry, trust_remote_code)
    layers = text_config(config).num_hidden_layers
    if config.model_type != plan.model["model_type"] or layers != plan.model["layers"]:
        raise PlanError(
            f"the plan is for a {plan.model['model_type']} of {plan.model['layers']} layers; "
            f"'{source.name}' is a {config.model_type} of {layers}"
        )
    check_apart(target, source.folder)
    check_companions(source.folder)
    empty = known.view
    models.check_memory(shape_now(empty), plan.model["dtype"], config, device)
    with at("memory"):
        shape, tokens = shape_now(empty), PROBE_SAMPLES * PROBE_TOKENS
        working = plan_memory(memory, (), shape, empty.config, tokens, plan.model["dtype"]).memory()
    empty.model.to(getattr(torch, plan.model["dtype"]))
    if rehearse(plan, empty):
        check_layout(empty, layout, "--layout ")
    config = models.load_config(source, trust_remote_code)
    tokenizer = models.load_tokenizer(source, trust_remote_code, config)
    beside = LAYOUTS[layout].read_tokenizer(empty, tokenizer)
    loaded = models.load_model(
        source, dtype=plan.model["dtype"], device=device, trust_remote_code=trust_remote_code, memory=working
    )
    view = ModelView(loaded, known.family)
    view.memory = working
    before = shape_now(view)
    fingerprint = view.fingerprint()
    # Plans of earlier versions name the weights alone.
    if plan.model["fingerprint"] not in (fingerprint, view.weights_fingerprint()):
        raise PlanError(
            f"'{source.name}' has fingerprint {fingerprint[:12]}, "
            f"the plan was made for {plan.model['fingerprint'][:12]}"
        )
    apply_plan(plan, view)
    report = ReportBuilder.begin(plan.model, plan.seed, plan.calibration)
    report.add_stages(plan.stages, count_steps=False)
    report.add_compressed(view, before)
    report.add_notes([*plan.notes, *known.notes(), *models.corrections(source, config), *beside])
    generator = torch.Generator().manual_seed(plan.seed)
    ids = torch.randint(0, view.config.vocab_size, (PROBE_SAMPLES, PROBE_TOKENS), generator=generator)
    cut = None
    if view.tokens is not None:
        cut = cut_tokenizer(source, tokenizer, view.tokens, view.config, trust_remote_code)
    folder = OutputFolder(target, source.folder, layout, overwrite, trust_remote_code, cut, verify)
    folder.save(view, ids, plan, report)
    return RunResult(view.model, tokenizer if cut is None else cut.tokenizer, plan, report.data, target)


def _original(plan: Plan, model: str | None, plugins: Plugins, progress: Progress) -> models.ModelSource:
    """The original model.

    Args:
        plan: The plan, which names a model.
        model: The model to use instead; None for the one that the plan names.
        plugins: The names of models that are known.
        progress: Shows what takes long.

    Returns:
        Where the model lies.

    Raises:
        ModelError: When it is not found.
    """
    if model is not None:
        return models.locate(model, plugins.registry, progress)
    try:
        return models.locate(plan.model["source"], plugins.registry, progress)
    except ModelError as error:
        raise ModelError(
            f"{error}; a plan names a model that lay elsewhere by its last part only: pass --model PATH"
        ) from None
