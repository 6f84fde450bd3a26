"""Everything about a run that can be known to be wrong before the weights are loaded, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from swm.checkpoint import saving as checkpoint
from swm.checkpoint.coming import Coming
from swm.checkpoint.companions import check_companions
from swm.checkpoint.export import check_layout
from swm.checkpoint.layout import LAYOUTS
from swm.errors import BudgetError, RecipeError, TextError, at
from swm.files.outputs import check_apart, check_inputs, check_outside
from swm.interfaces.progress import Progress
from swm.interfaces.stage import Setting, Stage
from swm.interfaces.text import Calibration, TextSource, needs_model
from swm.interfaces.work import Work
from swm.loading import models
from swm.loading.given import GivenModel
from swm.measure.evaluator import Evaluator, make_evaluator
from swm.measure.named_numbers import check_measures
from swm.measure.tasks.task_index import check_tasks
from swm.memory.working_memory import WorkingMemory
from swm.model.devices import weight_dtype
from swm.model.families import ModelFamily
from swm.model.lengths import check_length
from swm.model.own_layers import own_layers
from swm.model.shape import ModelShape, shape_now
from swm.model.view import ModelView
from swm.plugins.loading import Plugins
from swm.recipe.recipe import Recipe
from swm.run.budgeting import budgeted, check_layout_saves
from swm.run.calibrating import calibration_images, check_images, draw_calibration, unread_notes
from swm.run.estimates import works_of
from swm.run.memory_plan import MemoryPlan, plan_memory
from swm.run.original import Original
from swm.run.stage_order import check_stage_order
from swm.run.taking import check_reader, known_source, readers
from swm.vocabulary.cut_tokenizer import CutTokenizer


@dataclass
class Prepared:
    """All that a run needs and that costs little, checked."""

    source: models.ModelSource
    config: Any
    family: ModelFamily
    shape: ModelShape
    tokenizer: Any
    calibration: Calibration | None
    """None while the model still has to write the text."""
    evaluator: Evaluator
    output: Path | None
    original: Original
    memory: MemoryPlan
    notes: list[str]
    """What a report says of the model's family row, and of what its files say wrongly."""
    works: Sequence[Work | None] = ()
    """What each stage computes, for an estimate of its time."""
    cut: CutTokenizer | None = None
    """The tokenizer of the model with a part of its vocabulary; None while that is whole."""

    def drawn_calibration(self) -> Calibration:
        """The calibration text as tokens. Raises TextError while the model still has to write it."""
        if self.calibration is None:
            raise TextError("the model has not written the calibration text yet; load the model first")
        return self.calibration


def prepare(
    recipe: Recipe,
    plugins: Plugins,
    progress: Progress,
    overwrite: bool,
    inputs: Sequence[str | Path] = (),
    written: Sequence[Path] = (),
    given: GivenModel | None = None,
) -> Prepared:
    """Check the recipe against the machine and the model's config; no weights are loaded.

    Args:
        recipe: The recipe.
        plugins: The strategies and families that are known.
        progress: Shows what takes long.
        overwrite: Whether an output folder of swm may be replaced.
        inputs: Files besides those in the recipe that must not lie in the output folder.
        written: Files that the caller writes, which must not lie inside the model.
        given: The model object that the user gave in place of a name.

    Returns:
        What the run needs and what costs little.

    Raises:
        SwmError: For whatever is wrong, with its place in the recipe.
    """
    with at("output"):
        output = None if recipe.output is None else checkpoint.check_output(recipe.output, overwrite)
        if output is not None:
            check_apart(output, Path(recipe.model))
            check_inputs(output, {**recipe.resolved(), "output": None}, [*plugins.files, *inputs])
    with at("calibration", "text"):
        recipe.calibration.text.check()
    check_images(recipe, plugins.registry)
    if recipe.evaluate.perplexity is not None:
        with at("evaluate", "perplexity", "text"):
            recipe.evaluate.perplexity.text.check()
    tasks = recipe.evaluate.task_protocol()
    if tasks is not None:
        with at("evaluate"):
            check_tasks(tasks)
    with at("evaluate", "measures"):
        check_measures(recipe.evaluate.measures or ())
    for i, tracker in enumerate(recipe.trackers):
        with at("trackers", i):
            tracker.check()
    with at("device"):
        models.pick_device(recipe.device)
    with at("device_map"):
        models.check_device_map(recipe.device_map)
    with at("model"):
        source = models.locate(recipe.model, plugins.registry, progress, given)
        config = models.load_config(source, recipe.trust_remote_code)
        known = known_source(source, config, plugins.registry, recipe.trust_remote_code)
        family, empty = known.family, known.view
        shape = replace(shape_now(empty), model=empty, dtype=weight_dtype(recipe.dtype, empty.config))
    row = LAYOUTS[recipe.layout]
    if output is not None:
        with at("output"):
            check_apart(output, source.folder)
        with at("model"):
            check_companions(source.folder)
        _check_form(recipe, config, empty)
    for file in written:
        check_outside(file, source.folder)
    check_length(config, recipe.calibration.seq_len, ("calibration", "seq_len"))
    text = recipe.calibration
    first = True
    for i in range(len(recipe.stages)):
        # What a later stage must remove depends on what the earlier ones remove.
        with at(*recipe.place(i)):
            check_stage_order(recipe, i, output, empty)
            check_layout_saves(recipe, i, output)
        with at("budget"):
            aimed, idle = budgeted(recipe, i, shape, first)
        with at(*recipe.place(i)):
            setting = Setting(shape, family, config, text.samples, text.seq_len, empty, first)
            _check_stage(recipe, i, aimed, setting.seen_by(aimed.seen_samples()))
        first = first and idle
    for place, source_of_text in _texts(recipe):
        with at(*place):
            source_of_text.check_model(config)
    with at("model"):
        if recipe.device_map is None and given is None:
            models.check_memory(shape, recipe.dtype, config, recipe.device)
        tokenizer = models.load_tokenizer(source, recipe.trust_remote_code, config)
    if tokenizer is None:
        check_reader(recipe.evaluate, *readers(recipe))
    with at("layout"):
        beside = row.read_tokenizer(empty, tokenizer) if output is not None else []
    for i, stage in enumerate(recipe.stages):
        with at(*recipe.place(i)):
            stage.check_texts(tokenizer)
    with at("memory"):
        tokens = text.samples * text.seq_len
        on_cpu = recipe.device_map is None and models.pick_device(recipe.device).type == "cpu"
        weightless = empty if on_cpu else None
        memory = plan_memory(
            recipe.memory, recipe.stages, shape, empty.config, tokens, recipe.dtype, weightless, text.seq_len
        )
        memory = replace(memory, in_memory=given is not None)
    notes = [*known.notes(), *models.corrections(source, config), *unread_notes(recipe.calibration.text), *beside]
    working = memory.memory()
    original = Original(_loader(recipe, source, working), family, tokenizer, progress, memory=working)
    images = calibration_images(recipe.calibration.text, source, empty.model, tokenizer, recipe.trust_remote_code)
    calibration = None
    if not needs_model(recipe.calibration.text):
        calibration = draw_calibration(recipe.calibration, recipe.calibration.text, tokenizer, recipe.seed, images)
    for i, stage in enumerate(recipe.stages):
        if calibration is not None and any(later.reads_calibration for later in recipe.stages[i + 1 :]):
            with at(*recipe.place(i)):
                stage.check_calibration(tokenizer, config, calibration)
    with at("evaluate"):
        evaluator = make_evaluator(recipe.evaluate, tokenizer, config, progress)
    works = works_of(recipe, Setting(shape, family, config, text.samples, text.seq_len, empty))
    return Prepared(
        source, config, family, shape, tokenizer, calibration, evaluator, output, original, memory, notes, works
    )


def _check_form(recipe: Recipe, config: Any, empty: ModelView) -> None:
    """Raise an SwmError where the layout of a recipe cannot hold its model as it is; stages may still change it."""
    with at("layout"):
        if own_layers(config) is not None and not any("layers" in stage.removed_kinds() for stage in recipe.stages):
            check_layout(empty, recipe.layout)
        refused = LAYOUTS[recipe.layout].refusal(empty, Coming())
        if refused:
            raise RecipeError(refused)


def _texts(recipe: Recipe) -> Iterator[tuple[tuple[str | int, ...], TextSource]]:
    """The texts that the original model may have to write, and where the recipe names them."""
    yield ("calibration", "text"), recipe.calibration.text
    for i, stage in enumerate(recipe.stages):
        for text in stage.texts():
            yield (*recipe.place(i), "data"), text


def _loader(recipe: Recipe, source: models.ModelSource, memory: WorkingMemory) -> Callable[[], Any]:
    return lambda: models.load_model(
        source,
        dtype=recipe.dtype,
        device=recipe.device,
        device_map=recipe.device_map,
        trust_remote_code=recipe.trust_remote_code,
        memory=memory,
    )


def _check_stage(recipe: Recipe, index: int, stage: Stage, setting: Setting) -> None:
    """Check a stage, in later rounds of its entry with what the earlier ones leave.

    Args:
        recipe: The recipe.
        index: The position of the stage in the run.
        stage: The stage with its target.
        setting: What it is checked against.
    """
    rounds = recipe.rounds_of(index)
    if rounds is None:
        stage.check(setting)
        return
    try:
        stage.check(replace(setting, shape=rounds.shape_before(index, setting.shape)))
    except BudgetError as error:
        error.message = f"{rounds.name_of(index)}: {error.message}"
        raise
