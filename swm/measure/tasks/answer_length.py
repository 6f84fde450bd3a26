"""How many tokens a model may write in answer to a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swm.errors import RecipeError
from swm.measure.tasks.quiet_harness import quiet_harness

# Of tasks that do not say it, as lm-eval has it.
USUAL_LENGTH = 256


def generates(task: Any) -> bool:
    """Whether a task of lm-eval has the model write."""
    return bool(task.get_config("output_type") == "generate_until")


def with_length(task: Any, tokens: int | None) -> Any:
    """The task with answers of at most so many tokens; None leaves the length that it says."""
    if tokens is not None and generates(task):
        task.set_config(key="generation_kwargs", value={"max_gen_toks": tokens}, update=True)
    return task


def check_lengths(tasks: Mapping[str, Any], config: Any, tokenizer: Any) -> None:
    """Raise RecipeError for a task whose answers may be as long as all that the model takes."""
    with quiet_harness():
        from lm_eval.models.utils import normalize_gen_kwargs, resolve_max_length

        longest = resolve_max_length(config, tokenizer)
        for name, task in tasks.items():
            if not generates(task):
                continue
            asked = normalize_gen_kwargs(task.get_config("generation_kwargs") or {}, USUAL_LENGTH)["max_gen_toks"]
            if asked >= longest:
                raise RecipeError(
                    f"task '{name}' asks for answers of up to {asked} tokens; with the question, the model takes "
                    f"{longest}. Set max_gen_toks to less",
                    ("tasks",),
                )
