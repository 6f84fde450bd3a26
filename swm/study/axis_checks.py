"""What a study shows of its runs, checked before the first of them: figures and rankings of what nobody measures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from swm.errors import RecipeError, unknown
from swm.interfaces.measure import Measure
from swm.measure.named_numbers import numbers_of
from swm.measure.tasks.seven import PRESET, SEVEN
from swm.plugins.registry import Registry, require_interface
from swm.study.description import Study
from swm.study.measures import MEAN
from swm.study.naming import ADDED
from swm.study.objectives import ALWAYS


def check_axes(study: Study, recipes: Iterable[Mapping[str, Any]], registry: Registry) -> None:
    """Raise RecipeError for an axis or a ranking that is neither varied nor measured in any of the plain recipes.

    Groups of tasks are known by name only, so that nothing is refused where there are any.
    """
    measures, complete = _measured(recipes, registry)
    if not complete:
        return
    keys = [*study.grid, *(study.search.space if study.search else ())]
    varied = dict.fromkeys(end for key in keys for end in _ends(str(key)))
    for i, figure in enumerate(study.figures):
        shown = {"x": [figure.x], "y": figure.y, "by": [figure.by] if figure.by else [], "bold": []}
        for name, values in shown.items():
            known = {"x": [*varied, *measures], "by": [*varied]}.get(name, measures)
            for value in values:
                if value not in known:
                    raise RecipeError(unknown("axis", value, known), ("figures", i, name))
    if study.rank_by is not None and study.rank_by not in measures:
        raise RecipeError(unknown("measure", study.rank_by, measures), ("rank_by",))


def _measured(recipes: Iterable[Mapping[str, Any]], registry: Registry) -> tuple[Sequence[str], bool]:
    """The names of all measures, and whether these are all that there can be."""
    names, complete = dict.fromkeys(ALWAYS), True
    for recipe in recipes:
        wanted = recipe.get("evaluate") or {}
        tasks = [name for task in wanted.get("tasks") or () for name in (SEVEN if task == PRESET else (task,))]
        complete &= all(name in SEVEN for name in tasks) and not wanted.get("include_path")
        named = [registry.build(Measure.kind, value) for value in wanted.get("measures") or ()]
        names |= dict.fromkeys(numbers_of(require_interface(Measure, each) for each in named))
        names |= dict.fromkeys(["perplexity"] if wanted.get("perplexity") else [])
        names |= dict.fromkeys(["prefill", "decode"] if wanted.get("speed") else [])
        names |= dict.fromkeys([MEAN, *tasks] if tasks else [])
    return list(names), complete


def _ends(key: str) -> list[str]:
    """The dotted key and all its ends, of which the shortest that is no other key's is its name in tables."""
    parts = key.replace(ADDED, ".added").split(".")
    return [key, *(".".join(parts[i:]) for i in range(len(parts)))]
