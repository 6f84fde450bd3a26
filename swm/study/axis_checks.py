"""What a study shows of its runs, checked before the first of them: figures and rankings of what nobody measures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from swm.errors import RecipeError, at, unknown
from swm.recipe.recipe import Recipe
from swm.study.axis_names import ends, key_named
from swm.study.description import Study
from swm.study.measures import LABELS
from swm.study.objectives import SOMETIMES, scales


def check_axes(study: Study, recipes: Iterable[Recipe]) -> None:
    """Raise RecipeError for an axis or a ranking that is not varied or not measured, with the nearest name.

    A name that is no recipe's measure may be that of a task in a group or a folder of tasks, which are read for it.
    """
    keys = [str(key) for key in (*study.grid, *(study.search.space if study.search else ()))]
    wanted = list(_measures_wanted(study, keys))
    measures: dict[str, None] = {}
    seen: list[object] = []
    protocols: dict[str, object] = {}
    for recipe in recipes:
        _check_protocol(recipe, protocols, keys)
        if recipe.evaluate not in seen:
            seen.append(recipe.evaluate)
            measures |= dict.fromkeys(scales(recipe, [name for _, name in wanted]))
    for path, name in wanted:
        shown = path[0] == "figures"
        allowed = [*measures, *(SOMETIMES if shown else ())]
        if name not in allowed:
            axes = [end for key in keys for end in ends(key)] if path[-1] == "x" else []
            raise RecipeError(unknown("axis" if shown else "measure", name, dict.fromkeys([*axes, *allowed])), path)


def _check_protocol(recipe: Recipe, protocols: dict[str, object], keys: Iterable[str]) -> None:
    """Raise RecipeError where a recipe measures the same by another protocol than those before.

    Args:
        recipe: The recipe of a run.
        protocols: The protocols of the runs before, by what is measured; those of the recipe are added.
        keys: The keys that the study varies.
    """
    for what, asked in (("perplexity", recipe.evaluate.perplexity), ("tasks", recipe.evaluate.task_protocol())):
        if asked is not None and protocols.setdefault(what, asked) != asked:
            varied = next((key for key in keys if key.split(".")[0] == "evaluate"), "evaluate")
            raise RecipeError(
                f"the runs of one study measure {what} by one protocol, for results of two are never compared; write a "
                "study for each",
                ("grid", varied),
            )


def _measures_wanted(study: Study, keys: list[str]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The names that must be measures, with their places. Raises RecipeError for names of keys that are wrong."""
    if study.rank_by is not None:
        yield ("rank_by",), study.rank_by
    for i, figure in enumerate(study.figures):
        path = ("figures", i)
        for name in figure.by:
            with at(*path, "by"):
                key_named(name, keys)
        if any(figure.x in ends(key) for key in keys) and figure.x not in LABELS:
            with at(*path, "x"):
                key_named(figure.x, keys)
        else:
            yield (*path, "x"), figure.x
        for what, names in (("y", figure.y), ("bold", [figure.bold] if figure.bold else [])):
            for name in names:
                yield (*path, what), name
