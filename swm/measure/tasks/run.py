"""Measures a model on downstream tasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from swm.errors import RecipeError, brief
from swm.interfaces.progress import Progress
from swm.measure.metrics import average
from swm.measure.tasks.harness import quiet_harness
from swm.measure.tasks.sources import PreparedTasks

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
    """Score of every task with its standard error, the mean of those in percent, and the protocol.

    Scores that are no mean over documents have no standard error.
    Raises ModelError when the model's scores are not finite, RecipeError for a task that lm-eval refuses to run.
    """
    with quiet_harness(), _evaluating(model):
        from lm_eval.evaluator import evaluate

        from swm.measure.tasks.scorer import PrefixScorer

        for task in prepared.tasks.values():
            # Drawing examples uses the seed up: a second model must see the same ones.
            task.set_fewshot_seed(seed=FEWSHOT_SEED)
        scorer = PrefixScorer(model, tokenizer, batch_tokens, progress, label)
        try:
            found = evaluate(
                lm=scorer,
                task_dict={"tasks": dict(prepared.tasks)},
                limit=prepared.protocol.limit,
                bootstrap_iters=0,
            )
        except ValueError as error:
            raise RecipeError(f"lm-eval cannot run the tasks: {brief(error)}", ("tasks",)) from error
        rows = {name: _row(prepared, name, found) for name in prepared.tasks}
    mean = average(rows)
    return dict(tasks=rows, **({} if mean is None else dict(average=mean)), protocol=prepared.record)


def check_comparable(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Raise RecipeError that names the difference when two records were not measured by one protocol."""
    for key in {**one["protocol"], **other["protocol"]}:
        mine, theirs = one["protocol"].get(key), other["protocol"].get(key)
        if mine != theirs:
            raise RecipeError(
                f"scores cannot be compared: {key} is {mine!r} in one record and {theirs!r} in the other",
                ("protocol", key),
            )


def _row(prepared: PreparedTasks, name: str, found: dict[str, Any]) -> dict[str, Any]:
    """Metric, value, standard error of the mean over documents, and how many there were."""
    from lm_eval.api.metrics import mean, mean_stderr

    task = prepared.tasks[name]
    scores = {tuple(key.split(",", 1)): value for key, value in found["results"][name].items() if "," in key}
    reported = [metric for metric, _ in scores if not metric.endswith("_stderr")]
    metric = prepared.metric(name, reported)
    kind = next(kind for known, kind in scores if known == metric)
    values = [sample[metric] for sample in found["samples"][name] if sample["filter"] == kind and metric in sample]
    row: dict[str, Any] = {"metric": metric, "value": float(scores[metric, kind])}
    higher = task.higher_is_better().get(metric)
    if higher is not None:
        row["higher_is_better"] = bool(higher)
    if len(values) > 1 and task.aggregation().get(metric) is mean:
        row["standard_error"] = float(mean_stderr(values))
    row["items"] = len(values)
    if set(values) <= {0, 1}:
        # By item, so that two models that answered the same can be compared item by item.
        row["hits"] = "".join(str(int(value)) for value in values)
    return row


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """The model without dropout inside the block."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
