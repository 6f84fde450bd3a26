"""Measuring one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from swm.errors import RecipeError, at, did_you_mean, quoted
from swm.interfaces.progress import Progress, announce, usual_progress
from swm.loading import models
from swm.loading.given import GivenModel
from swm.measure.evaluator import make_evaluator
from swm.measure.named_numbers import check_measures
from swm.measure.protocol import EvaluationRecipe
from swm.measure.speed import measure_speed
from swm.measure.tasks.task_index import check_tasks
from swm.measure.working_bytes import key_numbers, tokens_together, tokens_with_keys
from swm.model.devices import weight_dtype
from swm.model.shape import ModelShape
from swm.model.text_config import text_config
from swm.plugins.guarding import no_exit
from swm.plugins.loading import Plugins, load_plugins
from swm.recipe.building import build_evaluation
from swm.report.measurements import Measurements
from swm.run.memory_plan import Need, plan_for, token_bytes
from swm.run.taking import check_reader, taken_evaluation, taken_model

DTYPES = ("auto", "float32", "bfloat16", "float16")


@no_exit()
def evaluate(
    model: Any,
    *,
    tokenizer: Any = None,
    dtype: str = "auto",
    device: str = "auto",
    memory: str | int | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
    plugin_files: Sequence[str] = (),
    **wanted: Any,
) -> dict[str, Any]:
    """Measure one model, as `swm evaluate` does.

    Args:
        model: A model object of transformers, which stays as it is, a hub id, a folder, a GGUF file or a registered
            name.
        tokenizer: The tokenizer or processor of a model object; a perplexity of token ids needs none.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        device: `auto`, or a device of torch.
        memory: How much it may take beside what it maps from files, such as `8GiB`; None for what is free.
        trust_remote_code: Whether the model's own code may run.
        progress: Shows what is going on; None for lines in a notebook, and nothing elsewhere.
        plugin_files: Python files with strategies.
        wanted: What is measured, by the keys of a recipe's `evaluate`; without any the perplexity. Its text may be a
            tensor of ids, strings, a data set or batches with masks: `perplexity=ids`.

    Returns:
        The measurements by kind (`perplexity`, `tasks`, `measures`, `answers`, `speed`) as plain data, `model` and
        its `size`.

    Raises:
        SwmError: Before the weights are loaded for everything that can be known by then.
    """
    plugins = load_plugins(plugin_files)
    name, given = taken_model(model, tokenizer)
    return evaluate_model(
        name,
        taken_evaluation(wanted or {"perplexity": {}}, plugins.registry),
        plugins,
        given=given,
        dtype=dtype,
        device=device,
        memory=memory,
        trust_remote_code=trust_remote_code,
        progress=progress,
    )


def evaluate_model(
    model: str,
    wanted: Mapping[str, Any],
    plugins: Plugins,
    *,
    given: GivenModel | None = None,
    dtype: str = "auto",
    device: str = "auto",
    memory: str | int | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure one model.

    Args:
        model, dtype, device, memory, trust_remote_code, progress: As in `evaluate`.
        wanted: What is measured, as the `evaluate` part of a recipe.
        plugins: The strategies that may be named.
        given: The model object in place of the name.

    Returns:
        As there.

    Raises:
        SwmError: As there.
    """
    if dtype not in DTYPES:
        raise RecipeError(
            f"found {quoted(dtype)}; allowed: {', '.join(DTYPES)}.{did_you_mean(dtype, DTYPES)}", ("dtype",)
        )
    progress = progress or usual_progress()
    asked = build_evaluation(wanted, plugins)
    if asked.perplexity is not None:
        asked.perplexity.text.check()
    tasks = asked.task_protocol()
    if tasks is not None:
        check_tasks(tasks)
    with at("measures"):
        check_measures(asked.measures or ())
    for i, measure in enumerate(asked.measures or ()):
        if measure.needs_original:
            raise RecipeError(
                f"'{measure.name}' compares with the original model, which only a run has: name it in the evaluate of "
                "a recipe",
                ("measures", i),
            )
    if given is not None:
        given.check_dtype(dtype)
        device = str(given.device) if device == "auto" else device
    on_cpu = models.pick_device(device).type == "cpu"
    source = models.locate(model, plugins.registry, progress, given)
    config = models.load_config(source, trust_remote_code)
    empty = models.empty_model(config, trust_remote_code) if given is None else given.empty()
    weights = [p.numel() for p in empty.parameters()]
    if given is None:
        models.check_memory(ModelShape(sum(weights), ()), dtype, config, device)
    with at("memory"):
        kind = weight_dtype(dtype, config)
        # Weights that are wanted as they are stored are read where they lie.
        converted = 0 if kind is weight_dtype("auto", config) else max(weights)
        need = _need(asked, text_config(config), converted, kind.itemsize)
        plan = plan_for(memory, need, sum(weights), config, dtype, on_cpu=on_cpu)
        plan = replace(plan, in_memory=given is not None)
    tokenizer = models.load_tokenizer(source, trust_remote_code, config)
    if tokenizer is None:
        check_reader(asked)
    evaluator = make_evaluator(asked, tokenizer, config, progress)
    announce(progress, plan.sentence())
    loaded = models.load_model(
        source, dtype=dtype, device=device, trust_remote_code=trust_remote_code, memory=plan.memory()
    )
    name = source.name if given is not None else source.folder.name
    size = {"parameters": sum(weights), "layers": getattr(text_config(config), "num_hidden_layers", None)}
    measured: dict[str, Any] = {"model": model, "size": size, **dict(evaluator.measure(loaded, name))}
    if asked.speed is not None:
        about = {"progress": progress, "tokenizer": evaluator.tokenizer}
        measured["speed"] = measure_speed({"model": loaded}, text_config(config).vocab_size, asked.speed, **about)
    return Measurements(measured)


def _need(asked: EvaluationRecipe, config: Any, converted: int, size: int) -> Need:
    """What measuring takes beside the weights.

    Args:
        asked: What is measured.
        config: The config of the text model.
        converted: The numbers of the largest weight that is converted.
        size: The bytes of a number.
    """
    tokens, tokens_of = tokens_together(asked)
    with_keys = tokens_with_keys(asked)
    return Need(
        tokens,
        token_bytes(getattr(config, "hidden_size", 0)),
        2 * converted * size,
        working=with_keys and with_keys * key_numbers(config) * size,
        tokens_of=tokens_of,
        working_of="keys and values" if with_keys else "",
    )
