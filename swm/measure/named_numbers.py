"""The named numbers of the measures of a recipe: which there will be, how they are made, and what is kept of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import torch

from swm.errors import PluginError, RecipeError, SwmError, at, listed, quoted
from swm.interfaces.measure import Measure, MeasureContext, Measurement
from swm.interfaces.metric import Metric
from swm.plugins.guarding import describe

NAME = re.compile(r"[A-Za-z0-9][\w-]*")
# What reports, tables and recipes call something else by.
TAKEN = frozenset(
    {
        *("perplexity", "tasks", "measures", "answers", "speed", "accuracy", "prefill", "decode"),
        *("parameters", "active", "ratio", "layers", "seconds"),
        *("id", "kind", "name", "seed", "state"),
    }
)
# The digits that are kept of the number of an item.
DIGITS = 6


def numbers_of(measures: Iterable[Measure]) -> dict[str, Metric]:
    """All numbers that the measures promise, by name. Raises PluginError for what is no metric."""
    return {metric.name: metric for measure in measures for metric in _promised(measure)}


def check_names(measures: Sequence[Measure], tasks: Collection[str]) -> None:
    """Raise RecipeError, with the place below `measures`, for two numbers of one name; `tasks` have names too."""
    owners = dict.fromkeys(tasks, "a task")
    for i, measure in enumerate(measures):
        with at(i):
            for metric in _promised(measure):
                if metric.name in owners:
                    raise RecipeError(
                        f"'{metric.name}' of measure '{measure.name}' is also the name of {owners[metric.name]}; leave "
                        "out one of them"
                    )
                owners[metric.name] = f"a number of measure {i} ('{measure.name}')"


def check_measures(measures: Sequence[Measure]) -> None:
    """Ask each, and the texts that it reads, what is missing; raises an SwmError with its place below `measures`."""
    for i, measure in enumerate(measures):
        for name, text in measure.texts().items():
            with at(i, name):
                text.check()
        with at(i):
            measure.check()


def _promised(measure: Measure) -> Sequence[Metric]:
    try:
        metrics = list(measure.numbers())
    except SwmError:
        raise
    except Exception as error:  # a plugin's own code
        raise PluginError(f"measure '{measure.name}': numbers(): {describe(error)}") from error
    for metric in metrics:
        named = isinstance(metric, Metric) and isinstance(metric.name, str)
        if not named or not NAME.fullmatch(metric.name) or metric.name in TAKEN:
            shown = quoted(metric.name if isinstance(metric, Metric) else metric)
            raise PluginError(
                f"measure '{measure.name}' promises {shown}; allowed are swm.Metric with names of letters, digits, "
                f"hyphens and underscores other than {listed(TAKEN)}"
            )
    if not metrics:
        raise PluginError(f"measure '{measure.name}' promises no number; numbers() must name at least one")
    return metrics


@dataclass(frozen=True)
class PreparedMeasure:
    """A measure with what it made of its texts; `protocol` is what its numbers depend on."""

    measure: Measure
    prepared: Any
    protocol: Mapping[str, Any]

    @classmethod
    def of(cls, measure: Measure, tokenizer: Any, config: Any) -> PreparedMeasure:
        """Prepare it for the original model. Raises an SwmError for what cannot be measured."""
        prepared = measure.prepare(tokenizer, config)
        return cls(measure, prepared, {**measure.spec(), **measure.record(prepared)})

    def retokenized(self, tokenizer: Any, config: Any, kept: Sequence[int]) -> PreparedMeasure:
        """The same for a model of the tokens `kept` alone, whose protocol says so where it is another one."""
        other = self.of(self.measure, tokenizer, config)
        if other.protocol == self.protocol:
            return other
        return replace(other, protocol={**other.protocol, "vocabulary_size": len(kept)})

    def run(self, model: Any, tokenizer: Any, context: MeasureContext) -> dict[str, dict[str, Any]]:
        """All its numbers of one model by name, as a report has them.

        Raises PluginError when the measure fails, or gives other numbers than it promises.
        """
        name, training = self.measure.name, model.training
        model.eval()
        try:
            with torch.no_grad():
                numbers = self.measure.measure(model, tokenizer, context)
        except SwmError:
            raise
        except Exception as error:
            raise PluginError(f"measure '{name}': {describe(error)}") from error
        finally:
            model.train(training)
        promised = numbers_of([self.measure])
        if not isinstance(numbers, Mapping) or numbers.keys() != promised.keys():
            given = listed(map(str, numbers)) if isinstance(numbers, Mapping) else type(numbers).__name__
            raise PluginError(f"measure '{name}' gives {given}; numbers() promises {listed(promised)}")
        return {key: self._kept(metric, numbers[key]) for key, metric in promised.items()}

    def _kept(self, metric: Metric, number: Any) -> dict[str, Any]:
        """A number as plain data."""
        who = f"measure '{self.measure.name}': '{metric.name}'"
        if not isinstance(number, Measurement):
            raise PluginError(f"{who} is a {type(number).__name__}; it must be a swm.Measurement")
        try:
            items = [float(item) for item in number.items]
            value = float(number.value)
            error = None if number.standard_error is None else float(number.standard_error)
        except (TypeError, ValueError, RuntimeError):
            raise PluginError(
                f"{who}: found {quoted(number)}; allowed are numbers, and a list of numbers as items"
            ) from None
        if math.isnan(value):
            raise PluginError(f"{who} is not a number")
        if error is not None and not error >= 0:
            raise PluginError(
                f"{who}: found the standard error {error:g}; allowed: 0 or more, None where it is unknown"
            )
        if items and math.isfinite(value) and not math.isclose(fmean(items), value, rel_tol=1e-6, abs_tol=1e-9):
            raise PluginError(f"{who} is {value:g} and the mean of its items {fmean(items):g}; use of_items(items)")
        kept: dict[str, Any] = {"value": value}
        if error is not None:
            kept["standard_error"] = error
        if items:
            # By item, so that two models that were measured on the same can be compared item by item.
            kept |= {"items": len(items), "item_values": [float(f"{item:.{DIGITS}g}") for item in items]}
        shown = {key: item for key, item in asdict(metric).items() if key not in ("name", "alone")}
        return {**kept, "scale": shown, "measure": self.measure.name, "protocol": dict(self.protocol)}


def once(load: Callable[[], Any]) -> Callable[[], Any]:
    """A function that loads at its first call and gives the same afterwards."""
    loaded: list[Any] = []

    def get() -> Any:
        if not loaded:
            loaded.append(load())
        return loaded[0]

    return get
