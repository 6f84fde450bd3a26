"""The values that a key of a grid or of a search takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swm.files import yaml_file as yamlfile
from swm.plugins.construct import construct
from swm.plugins.loading import Plugins
from swm.plugins.validation import fail
from swm.shown.values import quoted
from swm.study.naming import label


@dataclass(frozen=True)
class Range:
    """Numbers to search: from `low` to `high`, in steps, or on a logarithmic scale."""

    low: float
    high: float
    step: float | None = None
    log: bool = False
    whole: bool = False


Values = Range | Mapping[str, Any]
"""What a key of a search takes: a range, or values by their labels."""


def labelled_values(entry: Any, path: yamlfile.Path) -> dict[str, Any]:
    """The values that a key takes, by their labels, from a list or a mapping of names to values."""
    if isinstance(entry, Mapping) and entry:
        return {str(name): value for name, value in entry.items()}
    if not isinstance(entry, list) or not entry:
        fail(path, f"found {quoted(entry)}; it is a list of values, or a mapping of names to values")
    labels = [label(value) for value in entry]
    for i, name in enumerate(labels):
        if name in labels[:i]:
            fail((*path, i), f"'{name}' stands there twice")
    return dict(zip(labels, entry, strict=True))


def range_or_values(entry: Any, path: yamlfile.Path, plugins: Plugins) -> Values:
    """A range `{low, high}`, or else values by their labels. Raises RecipeError with the path of the culprit."""
    if not (isinstance(entry, Mapping) and {"low", "high"} <= entry.keys()):
        return labelled_values(entry, path)
    whole = all(isinstance(entry.get(key, 1), int) for key in ("low", "high", "step"))
    numbers = {key: float(value) if key != "log" else value for key, value in entry.items() if is_number(value)}
    searched: Range = construct(Range, {**entry, **numbers, "whole": whole}, plugins.registry.build, path)
    if not searched.low < searched.high:
        fail(path, f"low must be less than high; found {quoted(entry['low'])} and {quoted(entry['high'])}")
    return searched


def is_number(value: Any) -> bool:
    """Whether a value is a number, which `true` and `false` are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def first_value(values: Values) -> Any:
    """The value with which a search is checked before it begins."""
    if isinstance(values, Range):
        return int(values.low) if values.whole else values.low
    return next(iter(values.values()))


def suggest(trial: Any, key: str, values: Values) -> tuple[Any, Any]:
    """What a trial of Optuna takes for a key: as it is shown, and as the recipe has it."""
    if isinstance(values, Range):
        if values.whole:
            step = int(values.step or 1)
            number: Any = trial.suggest_int(key, int(values.low), int(values.high), step=step, log=values.log)
        else:
            number = trial.suggest_float(key, values.low, values.high, step=values.step, log=values.log)
        return number, number
    name = trial.suggest_categorical(key, list(values))
    value = values[name]
    return (value if is_number(value) else name), value
