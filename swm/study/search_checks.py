"""What can be known to be wrong with a search before its first trial: keys, values, objectives."""

from __future__ import annotations

from swm.errors import SwmError
from swm.interfaces.extras import check_extra
from swm.recipe.recipe import Recipe
from swm.study.grid import varied
from swm.study.loading import LoadedStudy
from swm.study.naming import label
from swm.study.objectives import directions
from swm.study.planning import joined
from swm.study.runs import RunBuilder
from swm.study.space import Range, first_value


def check_installed() -> None:
    """Raise RecipeError when Optuna is missing."""
    check_extra("a search", "optuna", "study", "search")


def check_search(loaded: LoadedStudy) -> list[str]:
    """The direction of every objective, `minimize` or `maximize`.

    Raises an SwmError for what can be known to be wrong before the search begins: keys, objectives, first values.
    """
    check_installed()
    builder = RunBuilder(loaded)
    mistakes: list[tuple[str, SwmError]] = []
    first = _first_values(loaded)
    for key, values in loaded.search.space.items():
        labelled = {str(first_value(values)): first_value(values)} if isinstance(values, Range) else values
        for name, value in labelled.items():
            try:
                builder.build(varied(loaded.study.recipe, {**first, key: value}))
            except SwmError as error:
                mistakes.append((f"{key} {label(name)}", error))
    if mistakes:
        raise joined(mistakes)
    return objective_directions(loaded)


def objective_directions(loaded: LoadedStudy) -> list[str]:
    """`minimize` or `maximize` for every objective of a study's search."""
    return directions(first_recipe(loaded), loaded.search.objectives)


def first_recipe(loaded: LoadedStudy) -> Recipe:
    """The recipe of the first values of a search."""
    return RunBuilder(loaded).build(varied(loaded.study.recipe, _first_values(loaded)))


def _first_values(loaded: LoadedStudy) -> dict[str, object]:
    search = loaded.search
    first = {key: first_value(values) for key, values in search.space.items()}
    return first if search.race is None else {**first, search.race.key: search.race.steps[0]}
