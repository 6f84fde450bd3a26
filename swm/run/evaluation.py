"""Measuring one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swm.errors import RecipeError, did_you_mean
from swm.interfaces.progress import Progress, Silent
from swm.loading import models
from swm.measure.evaluator import make_evaluator
from swm.measure.speed import measure_speed
from swm.measure.tasks.task_index import check_tasks
from swm.memory.machine import available_memory
from swm.memory.working_memory import WorkingMemory
from swm.model.shape import ModelShape
from swm.model.text_config import text_config
from swm.plugins.loading import Plugins
from swm.recipe.building import build_evaluation
from swm.run.memory_plan import SHARE

DTYPES = ("auto", "float32", "bfloat16", "float16")


def evaluate_model(
    model: str,
    wanted: Mapping[str, Any],
    plugins: Plugins,
    *,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure one model.

    Args:
        model: A hub id, a folder, a GGUF file or a registered name.
        wanted: What is measured, as the `evaluate` part of a recipe.
        plugins: The strategies that may be named.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        device: `auto`, or a device of torch.
        trust_remote_code: Whether the model's own code may run.
        progress: Shows what is going on; None for nothing.

    Returns:
        The measurements by kind (`perplexity`, `tasks`, `answers`, `speed`) as plain data, and `model`.

    Raises:
        SwmError: Before the weights are loaded for everything that can be known by then.
    """
    if dtype not in DTYPES:
        raise RecipeError(f"found '{dtype}'; allowed: {', '.join(DTYPES)}.{did_you_mean(dtype, DTYPES)}", ("dtype",))
    progress = progress or Silent()
    asked = build_evaluation(wanted, plugins)
    if asked.perplexity is not None:
        asked.perplexity.text.check()
    tasks = asked.task_protocol()
    if tasks is not None:
        check_tasks(tasks)
    models.pick_device(device)
    source = models.locate(model, plugins.registry, progress)
    config = models.load_config(source, trust_remote_code)
    parameters = sum(p.numel() for p in models.empty_model(config, trust_remote_code).parameters())
    models.check_memory(ModelShape(parameters, ()), dtype, config, device)
    evaluator = make_evaluator(asked, models.load_tokenizer(source, trust_remote_code, config), config, progress)
    memory = WorkingMemory(SHARE * available_memory())
    loaded = models.load_model(source, dtype=dtype, device=device, trust_remote_code=trust_remote_code, memory=memory)
    measured: dict[str, Any] = {"model": model, **dict(evaluator.measure(loaded, source.folder.name))}
    if asked.speed is not None:
        about = {"progress": progress, "tokenizer": evaluator.tokenizer}
        measured["speed"] = measure_speed({"model": loaded}, text_config(config).vocab_size, asked.speed, **about)
    return measured
