"""Every strategy of the registry with its parameters, grouped by kind."""

from __future__ import annotations

from words import docstring, table

from swm.interfaces.strategy import Strategy
from swm.plugins.registry import Registry
from swm.recipe.schema import recipe_schema
from swm.study.schema import study_schema

HEADINGS = {
    "stage": "what a recipe's `stages` may contain",
    "depth": "pruners of the `depth` stage: which layers are removed",
    "merger": "mergers of the `depth` stage: how a window of layers becomes one layer",
    "similarity": "how alike two activations are",
    "width": "pruners of the `width` stage: which heads, channels and experts are removed",
    "expert-merger": "what the `width` stage makes of experts that go (`merge`)",
    "recovery": "what a recipe's `recover` stage may name",
    "text": "where text comes from",
    "tracker": "experiment trackers",
    "measure": "what `evaluate` may name under `measures`: numbers of a model beside perplexity, tasks and speed",
    "model": "short names of models",
    "executor": "where the runs of a [study](../studies.md) are executed",
}


def strategies(registry: Registry) -> str:
    """All kinds that a recipe can name; kinds of plugins come last."""
    entries = [entry.strategy for entry in registry.entries() if entry.strategy.kind != "step"]
    kinds = [*HEADINGS, *sorted({strategy.kind for strategy in entries} - set(HEADINGS))]
    known = {**recipe_schema(registry)["$defs"], **study_schema(registry)["$defs"]}
    parts = []
    for kind in kinds:
        parts.append(f"## {kind}\n\n{HEADINGS.get(kind, '')[:1].upper()}{HEADINGS.get(kind, '')[1:]}.")
        parts += [_strategy(strategy, known) for strategy in entries if strategy.kind == kind]
    return "\n\n".join(parts)


def _strategy(strategy: type[Strategy], known: dict[str, dict[str, object]]) -> str:
    # A name may be that of several kinds, so it has an anchor of its own.
    heading = f'<a id="{strategy.kind}-{strategy.name}"></a>\n\n### {strategy.name}'
    holds = getattr(strategy, "holds", "")
    parameters = f"Its parameters are those of a [{holds}](#{holds})." if holds else ""
    schema = known.get(f"{strategy.kind}.{strategy.name}")
    if schema is not None:
        parameters = table(schema)
    paper = f"Paper: <{strategy.paper}>" if strategy.paper else ""
    default = f"This is the default {strategy.kind}." if strategy.is_default else ""
    return "\n\n".join(filter(None, [heading, docstring(strategy), default, parameters, paper]))


def steps(registry: Registry) -> str:
    """The steps that a plan may have."""
    registered = [entry.strategy for entry in registry.entries() if entry.strategy.kind == "step"]
    return "\n\n".join(f"### {step.name}\n\n{docstring(step)}" for step in registered)
