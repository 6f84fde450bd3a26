"""Every strategy of the registry with its parameters, grouped by kind."""

from __future__ import annotations

from words import docstring, table

from swm.interfaces.strategy import Strategy
from swm.plugins.registry import Registry
from swm.recipe.schema import recipe_schema
from swm.study.schema import study_schema

HEADINGS = {
    "stage": "what may stand in a recipe's `stages`",
    "depth": "pruners of the `depth` stage: which layers go",
    "merger": "mergers of the `depth` stage: what a window of layers becomes",
    "similarity": "how alike two activations are",
    "width": "pruners of the `width` stage: which heads and channels go",
    "recovery": "what stands below `recover`",
    "text": "where text comes from",
    "tracker": "experiment trackers",
    "model": "model names",
    "executor": "where the runs of a [study](../studies.md) are carried out",
}


def strategies(registry: Registry) -> str:
    """All kinds that a recipe can name. A kind of a plugin comes last."""
    entries = [entry.strategy for entry in registry.entries() if entry.strategy.kind != "step"]
    kinds = [*HEADINGS, *sorted({strategy.kind for strategy in entries} - set(HEADINGS))]
    known = {**recipe_schema(registry)["$defs"], **study_schema(registry)["$defs"]}
    parts = []
    for kind in kinds:
        parts.append(f"## {kind}\n\n{HEADINGS.get(kind, '')[:1].upper()}{HEADINGS.get(kind, '')[1:]}.")
        parts += [_strategy(strategy, known) for strategy in entries if strategy.kind == kind]
    return "\n\n".join(parts)


def _strategy(strategy: type[Strategy], known: dict[str, dict[str, object]]) -> str:
    heading = f"### {strategy.name} {{ #{strategy.kind}-{strategy.name} }}"
    holds = getattr(strategy, "holds", "")
    parameters = f"Its parameters are those of a [{holds}](#{holds})." if holds else ""
    schema = known.get(f"{strategy.kind}.{strategy.name}")
    if schema is not None:
        parameters = table(schema)
    paper = f"Paper: <{strategy.paper}>" if strategy.paper else ""
    default = f"This is the {strategy.kind} where a recipe names none." if strategy.is_default else ""
    return "\n\n".join(filter(None, [heading, docstring(strategy), default, parameters, paper]))


def steps(registry: Registry) -> str:
    """The steps that a plan may have."""
    found = [entry.strategy for entry in registry.entries() if entry.strategy.kind == "step"]
    return "\n\n".join(f"### {step.name}\n\n{docstring(step)}" for step in found)
