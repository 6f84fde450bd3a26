"""Measures a model on downstream tasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from swm.errors import RecipeError, brief
from swm.interfaces.progress import Progress
from swm.measure.metrics import average
from swm.measure.tasks.answer_length import generates
from swm.measure.tasks.instruction_checks import instruction_checks
from swm.measure.tasks.quiet_harness import quiet_harness
from swm.measure.tasks.task_data import PreparedTasks

# The seed by which lm-eval draws few-shot examples unless told otherwise.
FEWSHOT_SEED = 1234


def run_tasks(
    model: Any,
    tokenizer: Any,
    prepared: PreparedTasks,
    progress: Progress | None = None,
    label: str = "tasks",
    batch_tokens: int | None = None,
) -> dict[str, Any]:
    """Run lm-eval on a model in memory.

    Args:
        model: A causal language model; it runs without dropout, and is left in the mode that it is in.
        tokenizer: The model's tokenizer.
        prepared: The tasks with their data.
        progress: Shows how many requests are answered.
        label: What the progress calls the measurement.
        batch_tokens: Tokens in one pass; None for the usual number.

    Returns:
        `tasks`, the score of each with its standard error (scores that are no mean over documents have none), their
        `average`, if there is any, and the `protocol`.

    Raises:
        ModelError: When the model's scores are not finite.
        RecipeError: For a task that lm-eval refuses to run.
    """
    with quiet_harness(), instruction_checks(), _evaluating(model):
        from lm_eval.evaluator import evaluate

        from swm.measure.tasks.lm_eval_model import PrefixSharingLM

        for task in prepared.tasks.values():
            # Drawing examples uses the seed up: a second model must see the same ones.
            task.set_fewshot_seed(seed=FEWSHOT_SEED)
        scorer = PrefixSharingLM(model, tokenizer, batch_tokens, progress, label)
        try:
            results = evaluate(
                lm=scorer,
                task_dict={"tasks": dict(prepared.tasks)},
                limit=prepared.protocol.limit,
                bootstrap_iters=0,
            )
        except ValueError as error:
            raise RecipeError(f"lm-eval cannot run the tasks: {brief(error)}", ("tasks",)) from error
        rows = {name: _row(prepared, name, results) for name in prepared.tasks}
    mean = average(rows)
    return dict(tasks=rows, **({} if mean is None else dict(average=mean)), protocol=prepared.record)


def _row(prepared: PreparedTasks, name: str, results: dict[str, Any]) -> dict[str, Any]:
    """The metric that stands for a task, its value, its standard error, and how many documents there were.

    A written answer is scored in several ways: by metrics, and by filters that read the answer out of the text. The
    others stand under `others`.
    """
    task = prepared.tasks[name]
    scores = {
        (metric, kind): float(value)
        for key, value in results["results"][name].items()
        for metric, _, kind in [key.partition(",")]
        if kind and not metric.endswith("_stderr")
    }
    main = prepared.metric(name, [metric for metric, _ in scores])
    kind = next(kind for known, kind in scores if known == main)
    values = _values(results, name, main, kind)
    row: dict[str, Any] = {"metric": main, "value": scores[main, kind]}
    higher = task.higher_is_better().get(main)
    if higher is not None:
        row["higher_is_better"] = bool(higher)
    row |= _error(task, main, values)
    row["items"] = len(values)
    if set(values) <= {0, 1}:
        # By item, so that two models that answered the same can be compared item by item.
        row["hits"] = "".join(str(int(value)) for value in values)
    if generates(task):
        row |= {} if kind == "none" else {"filter": kind}
        row["others"] = {
            metric if other == "none" else f"{metric}, {other}": {
                "value": value,
                **_error(task, metric, _values(results, name, metric, other)),
            }
            for (metric, other), value in scores.items()
            if (metric, other) != (main, kind)
        }
    return row


def _values(results: dict[str, Any], name: str, metric: str, kind: str) -> list[Any]:
    """A metric under a filter by document."""
    return [sample[metric] for sample in results["samples"][name] if sample["filter"] == kind and metric in sample]


def _error(task: Any, metric: str, values: list[Any]) -> dict[str, float]:
    """The standard error of a mean over documents; nothing for what is no mean."""
    from lm_eval.api.metrics import mean, mean_stderr

    if len(values) < 2 or task.aggregation().get(metric) is not mean:
        return {}
    return {"standard_error": float(mean_stderr(values))}


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """The model without dropout inside the block."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
