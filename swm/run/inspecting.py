"""Inspecting a model by its name: everything checked before the weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from swm.errors import RecipeError, at, listed, quoted
from swm.files.outputs import check_apart, check_inputs
from swm.interfaces.progress import Progress, announce, usual_progress
from swm.interfaces.similarity import SimilarityMetric
from swm.interfaces.strategy import plain
from swm.loading import models
from swm.loading.given import GivenModel
from swm.measure.inspection import Inspection, check_metric, inspect_model
from swm.measure.working_bytes import inspected_together, inspection_bytes, inspection_states
from swm.model.devices import weight_dtype
from swm.model.lengths import check_length
from swm.model.shape import shape_now
from swm.model.view import ModelView
from swm.plugins.construct import construct
from swm.plugins.guarding import no_exit
from swm.plugins.loading import Plugins, load_plugins
from swm.recipe.recipe import CalibrationRecipe
from swm.run.calibrating import calibration_images, check_sampling, draw_calibration, unread_notes
from swm.run.memory_plan import MemoryPlan, Need, plan_for, token_bytes
from swm.run.taking import known_source, taken_calibration, taken_model


@dataclass(frozen=True)
class InspectionRecipe:
    """What is inspected, with which metric and on which text."""

    model: str
    similarity: SimilarityMetric
    calibration: CalibrationRecipe
    patch_threshold: float | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    memory: str | int | None = None
    trust_remote_code: bool = False


@no_exit()
def inspect(
    model: Any,
    *,
    tokenizer: Any = None,
    progress: Progress | None = None,
    plugin_files: Sequence[str] = (),
    **wanted: Any,
) -> Inspection:
    """Say how alike the layers of a model are, as `swm inspect` does.

    Args:
        model: A model object of transformers, which stays as it is, a hub id, a folder, a GGUF file or a registered
            name.
        tokenizer: The tokenizer or processor of a model object; a calibration of token ids needs none.
        progress: Shows what is going on; None for lines in a notebook, and nothing elsewhere.
        plugin_files: Python files with strategies.
        wanted: `similarity`, `calibration`, `seed`, `dtype`, `device`, `memory` and `trust_remote_code` as in a recipe,
            and `patch_threshold`: how alike the layers of a patch are. The calibration may be a tensor of ids, strings,
            a data set or batches with masks.

    Returns:
        Similarities, influences and norms of the layers.

    Raises:
        SwmError: Before the weights are loaded for everything that can be known by then.
    """
    plugins = load_plugins(plugin_files)
    name, given = taken_model(model, tokenizer)
    if wanted.get("calibration") is not None:
        wanted["calibration"] = taken_calibration(wanted["calibration"], plugins.registry)
    recipe = build_inspection({"model": name, **wanted}, plugins)
    if given is not None:
        given.check_dtype(recipe.dtype)
        recipe = replace(recipe, device=str(given.device) if recipe.device == "auto" else recipe.device)
    return inspect_named(recipe, plugins, progress, given=given)


def build_inspection(data: Mapping[str, Any], plugins: Plugins) -> InspectionRecipe:
    """An inspection from plain data, with the default metric and text where none is named.

    Raises RecipeError with the path of the culprit.
    """
    registry = plugins.registry
    values = {"similarity": registry.default("similarity"), **data}
    drawn = values.get("calibration", {})
    if not isinstance(drawn, Mapping):
        what = listed(CalibrationRecipe.__dataclass_fields__)
        raise RecipeError(f"found {quoted(drawn)}; calibration is a mapping with {what}", ("calibration",))
    values["calibration"] = {"text": registry.default("text"), **drawn}
    recipe = construct(InspectionRecipe, values, registry.build)
    metrics = [entry.strategy for entry in registry.entries() if entry.strategy.kind == "similarity"]
    others = [metric.name for metric in metrics if _of_states(metric)]
    check_metric(recipe.similarity, recipe.calibration.samples, recipe.calibration.seq_len, others)
    return recipe


def inspect_named(
    recipe: InspectionRecipe,
    plugins: Plugins,
    progress: Progress | None = None,
    output: Path | None = None,
    given: GivenModel | None = None,
) -> Inspection:
    """Inspect the model that the recipe names.

    Args:
        recipe: What is inspected, and how.
        plugins: The strategies and families that are known.
        progress: Shows what is going on; None for lines in a notebook, and nothing elsewhere.
        output: The folder that the caller writes the inspection into, which must hold no input; None for none.
        given: The model object in place of the name.

    Returns:
        Similarities, influences and norms of the layers.

    Raises:
        SwmError: Before the weights are loaded for everything that can be known by then.
    """
    progress, wanted = progress or usual_progress(), recipe.calibration
    if output is not None:
        check_apart(output, Path(recipe.model))
        check_inputs(output, plain(recipe), plugins.files)
    with at("calibration", "text"):
        wanted.text.check()
    if wanted.text.image_rows() is not None:
        check_sampling(wanted)
    with at("device"):
        on_cpu = models.pick_device(recipe.device).type == "cpu"
    source = models.locate(recipe.model, plugins.registry, progress, given)
    if output is not None:
        check_apart(output, source.folder)
    config = models.load_config(source, recipe.trust_remote_code)
    known = known_source(source, config, plugins.registry, recipe.trust_remote_code)
    wanted.text.check_model(config)
    check_length(config, wanted.seq_len, ("calibration", "seq_len"))
    if given is None:
        models.check_memory(shape_now(known.view), recipe.dtype, config, recipe.device)
    plan = replace(_plan_memory(recipe, known.view, on_cpu), in_memory=given is not None)
    tokenizer = models.load_tokenizer(source, recipe.trust_remote_code, config)
    images = calibration_images(wanted.text, source, known.view.model, tokenizer, recipe.trust_remote_code)
    calibration = draw_calibration(wanted, wanted.text, tokenizer, recipe.seed, images)
    announce(progress, plan.sentence())
    memory, own_code = plan.memory(), recipe.trust_remote_code
    with progress.task("load the model"):
        model = models.load_model(
            source, dtype=recipe.dtype, device=recipe.device, trust_remote_code=own_code, memory=memory
        )
    view, name = ModelView(model, known.family), Path(recipe.model).name or source.folder.name
    view.memory = memory
    threshold = recipe.patch_threshold
    inspection = inspect_model(view, calibration, recipe.similarity, progress, name=name, patch_threshold=threshold)
    return replace(inspection, notes=(*known.notes(), *unread_notes(wanted.text)))


def _plan_memory(recipe: InspectionRecipe, model: ModelView, on_cpu: bool) -> MemoryPlan:
    """What is kept where. Raises ModelError for too little memory.

    Args:
        recipe: What is inspected, and how.
        model: The model without its weights.
        on_cpu: Whether it computes on the CPU.
    """
    kind, metric = weight_dtype(recipe.dtype, model.config), recipe.similarity
    text = (recipe.calibration.samples, recipe.calibration.seq_len)
    need = Need(
        tokens=inspected_together(*text),
        token_bytes=token_bytes(model.config.hidden_size),
        worked_on=2 * max(p.numel() for p in model.model.parameters()) * kind.itemsize,
        states=inspection_states(model, metric, *text, kind),
        working=inspection_bytes(model, metric, *text),
        tokens_of="calibration with samples x seq_len",
        working_of=f"comparing with '{metric.name}'",
    )
    with at("memory"):
        return plan_for(recipe.memory, need, model.parameters(), model.config, recipe.dtype, on_cpu=on_cpu)


def _of_states(metric: type[Any]) -> bool:
    return bool(metric.space != "logits")
