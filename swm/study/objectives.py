"""Which measures a recipe gives, and which way is better, known before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence

from swm.errors import RecipeError, unknown
from swm.measure.metrics import SHARE, Metric, metric_of
from swm.measure.named_numbers import numbers_of
from swm.measure.tasks.known_tasks import SEVEN
from swm.measure.tasks.protocol import TaskProtocol
from swm.measure.tasks.task_data import prepare_tasks
from swm.recipe.recipe import Recipe
from swm.study.measures import MEAN, SCALES

ALWAYS = ("parameters", "ratio", "layers", "seconds")
# What only models with experts have, which is known when they are loaded.
SOMETIMES = ("active",)


def directions(recipe: Recipe, objectives: Sequence[str]) -> list[str]:
    """`minimize` or `maximize` for each objective of a search, as Optuna calls them.

    Raises RecipeError for what the recipe does not measure, and for a metric that has no direction.
    """
    known = scales(recipe, objectives)
    ways = []
    for i, name in enumerate(objectives):
        if name not in known:
            raise RecipeError(unknown("measure", name, known), ("search", "objectives", i))
        less = known[name].less_is_better
        if less is None:
            raise RecipeError(
                f"'{name}' is measured by {known[name].name}, of which nobody says whether more is better; add "
                "higher_is_better to the metric in the task's file",
                ("search", "objectives", i),
            )
        ways.append("minimize" if less else "maximize")
    return ways


def scales(recipe: Recipe, wanted: Sequence[str]) -> dict[str, Metric]:
    """The unit and the direction of all that a recipe measures; tasks are read where a wanted name may be theirs."""
    measured = [*ALWAYS]
    measured += ["perplexity"] if recipe.evaluate.perplexity is not None else []
    measured += ["prefill", "decode"] if recipe.evaluate.speed is not None else []
    known = {name: SCALES[name] for name in measured} | numbers_of(recipe.evaluate.measures or ())
    protocol = recipe.evaluate.task_protocol()
    if protocol is None:
        return known
    needed = any(name not in known for name in wanted)
    tasks = _tasks(protocol) if needed else {}
    alike = [scale for scale in tasks.values() if scale.averaged]
    return {**known, **({MEAN: SCALES[MEAN]} if len(alike) > 1 else {}), **tasks}


def _tasks(protocol: TaskProtocol) -> dict[str, Metric]:
    """The metric of every task. Those of others than the seven must be read for it, data and all."""
    names = protocol.names()
    if all(name in SEVEN for name in names) and not protocol.include_path:
        return dict.fromkeys(names, SHARE)
    prepared = prepare_tasks(protocol)
    metrics = {}
    for name, task in prepared.tasks.items():
        higher = task.higher_is_better()
        metric = prepared.metric(name, list(higher))
        metrics[name] = metric_of([{"metric": metric, "higher_is_better": higher.get(metric)}])
    return metrics
