"""Measuring a model as a recipe says, the original and the compressed one alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from swm.errors import at
from swm.interfaces.measure import MeasureContext
from swm.interfaces.progress import Progress
from swm.interfaces.text import needs_model
from swm.measure.answers import answer_prompts, prompt_ids
from swm.measure.named_numbers import PreparedMeasure, once
from swm.measure.perplexity import TokenWindows, cut_windows, perplexity
from swm.measure.protocol import EvaluationRecipe
from swm.measure.split_windows import split_windows
from swm.measure.tasks.answer_length import check_lengths
from swm.measure.tasks.run import run_tasks
from swm.measure.tasks.task_data import PreparedTasks, prepare_tasks
from swm.model.lengths import check_length, fitting_length
from swm.model.text_config import text_config


@dataclass(frozen=True)
class Evaluator:
    """Measures models by one protocol; texts are tokenised and task data is loaded before any weights are."""

    recipe: EvaluationRecipe
    tokenizer: Any
    progress: Progress
    config: Any
    windows: TokenWindows | None = None
    tasks: PreparedTasks | None = None
    measures: Sequence[PreparedMeasure] = ()
    kept: Sequence[int] | None = None
    """The original ids of the tokens, for a model whose vocabulary was cut."""

    def measure(self, model: Any, which: str, original: Callable[[], Any] | None = None) -> Iterator[tuple[str, Any]]:
        """Each kind of measurement by name as it is done: `perplexity`, `tasks`, `measures` and `answers`, JSON-able.

        `original` loads the original model; without it, `model` is that model.
        """
        if self.windows is not None:
            yield "perplexity", perplexity(model, self.windows, self.progress, f"perplexity, {which}")
        if self.tasks is not None:
            yield "tasks", run_tasks(model, self.tokenizer, self.tasks, self.progress, f"tasks, {which}")
        if self.measures:
            yield "measures", self._numbers(model, which, original)
        if self.recipe.prompts:
            with self.progress.task(f"answers, {which}"):
                replies = answer_prompts(model, self.tokenizer, self.recipe.prompts, self.recipe.max_new_tokens)
            yield "answers", replies

    def retokenized(self, tokenizer: Any, kept: Sequence[int]) -> Evaluator:
        """The same measurements for a model of the tokens `kept` alone (original ids), with its own tokenizer."""
        protocol = self.recipe.perplexity
        windows = None
        if protocol is not None and self.windows is not None and protocol.text.token_rows() is not None:
            windows = self.windows.by_new_ids(kept)
        elif protocol is not None and self.windows is not None:
            windows = split_windows(self.windows, self.tokenizer, tokenizer, kept)
            if fitting_length(self.config, windows.longest) < windows.longest:
                # In other windows, which the model can read, the numbers are not those of the same text.
                windows = cut_windows(tokenizer, protocol).of_fewer_tokens(len(kept))
        measures = [each.retokenized(tokenizer, self.config, kept) for each in self.measures]
        return replace(self, tokenizer=tokenizer, windows=windows, measures=measures, kept=kept)

    def recall(self, results: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Those of earlier `results` of the same model that `measure` would give again, in its order."""
        return ((name, results[name]) for name in ("perplexity", "tasks", "measures", "answers") if name in results)

    def _numbers(self, model: Any, which: str, original: Callable[[], Any] | None) -> dict[str, Any]:
        """The numbers of all measures by name."""
        load = once(original) if original else lambda: model
        numbers: dict[str, Any] = {}
        for i, each in enumerate(self.measures):
            label = f"{each.measure.name}, {which}"
            context = MeasureContext(each.prepared, load, original is None, self.progress, label, self.kept)
            with at("measures", i):
                numbers |= each.run(model, self.tokenizer, context)
        return numbers


def _check_prompts(recipe: EvaluationRecipe, tokenizer: Any, config: Any) -> None:
    """Raise RecipeError for a prompt that cannot be written as tokens, or leaves no room for an answer."""
    for i, prompt in enumerate(recipe.prompts):
        with at("prompts", i):
            tokens = len(prompt_ids(tokenizer, prompt))
            asked = f"a prompt of {tokens} tokens and max_new_tokens: {recipe.max_new_tokens}"
            check_length(config, tokens + recipe.max_new_tokens, parts=asked)


def make_evaluator(recipe: EvaluationRecipe, tokenizer: Any, config: Any, progress: Progress) -> Evaluator:
    """Tokenise the texts, load the task data, and check that the model takes texts of the lengths that are asked for.

    Args:
        recipe: What the recipe asks to be measured.
        tokenizer: The tokenizer of the models that will be measured.
        config: The config of the dense model, which says how long a text may be.
        progress: Shows how much of the task data is loaded.

    Returns:
        An evaluator for the dense and for the compressed model.

    Raises:
        SwmError: For a text, a task or a length that cannot be used, with its path below `evaluate`.
    """
    protocol, speed = recipe.perplexity, recipe.speed
    if protocol is not None:
        check_length(config, protocol.seq_len, ("perplexity", "seq_len"))
        # What a model writes is refused where it is read, whatever its length.
        if not needs_model(protocol.text):
            with at("perplexity", "text"):
                protocol.text.check_model(config)
    if speed is not None:
        given = speed.prompt_ids(tokenizer)
        tokens = speed.prompt_tokens if given is None else len(given)
        what = "prompt_tokens" if given is None else "a prompt of tokens"
        asked = f"{what}: {tokens} and new_tokens: {speed.new_tokens}"
        check_length(config, tokens + speed.new_tokens, ("speed",), asked)
    _check_prompts(recipe, tokenizer, config)
    with at("perplexity"):
        windows = None if protocol is None else cut_windows(tokenizer, protocol)
    tasks = recipe.task_protocol()
    prepared = None if tasks is None else prepare_tasks(tasks, progress)
    if prepared is not None:
        check_lengths(prepared.tasks, text_config(config), tokenizer)
    measures = []
    for i, measure in enumerate(recipe.measures or ()):
        with at("measures", i):
            measures.append(PreparedMeasure.of(measure, tokenizer, config))
    return Evaluator(recipe, tokenizer, progress, config, windows, prepared, measures)
