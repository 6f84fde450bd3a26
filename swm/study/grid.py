"""The grid of a study: all combinations of what is varied."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from swm.errors import RecipeError
from swm.recipe.overrides import index_or_name, set_value
from swm.study.description import Study
from swm.study.naming import ADDED
from swm.study.space import is_number, labelled_values


def combinations(study: Study) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The varied keys with their values, and the recipe that they make, for each run with each seed."""
    grid = {str(key): labelled_values(values, ("grid", str(key))) for key, values in study.grid.items()}
    first = study.recipe.get("seed", 0)
    seeds = [first + i for i in range(study.repeat)] if isinstance(first, int) else [first]
    for labels in itertools.product(*grid.values()):
        values = {key: grid[key][name] for key, name in zip(grid, labels, strict=True)}
        shown = {key: values[key] if is_number(values[key]) else name for key, name in zip(grid, labels, strict=True)}
        for seed in seeds:
            yield shown, varied(study.recipe, values, seed)


def varied(base: Mapping[str, Any], values: Mapping[str, Any], seed: int | None = None) -> dict[str, Any]:
    """The recipe with these dotted keys set. Raises RecipeError where there is nothing to set."""
    data = copy.deepcopy(dict(base))
    for key, value in values.items():
        value = copy.deepcopy(value)
        if key.endswith(ADDED):
            _add(data, key.removesuffix(ADDED), value)
        else:
            _open(data, key)
            set_value(data, key, value)
    if seed is not None and "seed" not in values:
        data["seed"] = seed
    return data


def _add(data: dict[str, Any], key: str, value: Any) -> None:
    here: Any = data
    for part in key.split("."):
        here = here.get(part) if isinstance(here, dict) else None
    if not isinstance(here, list):
        raise RecipeError(f"'{key}{ADDED}' adds to a list, and the recipe has none at {key}")
    if value is not None:
        here.extend(value if isinstance(value, list) else [value])


def _open(data: dict[str, Any], key: str) -> None:
    """A strategy that is a bare name becomes a mapping, so that its parameters can be set."""
    here: Any = data
    parts = key.split(".")
    for part, following in itertools.pairwise(parts):
        index: Any = index_or_name(part)
        try:
            inner = here[index]
        except (KeyError, IndexError, TypeError):
            return
        if isinstance(inner, str) and isinstance(index_or_name(following), str):
            here[index] = inner = {"name": inner}
        here = inner
