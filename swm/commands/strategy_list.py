"""The list of strategies for people: by kind, each with its parameters, its paper and its origin."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from swm.escapes import one_line
from swm.interfaces.strategy import Strategy
from swm.plugins.registry import BUILTIN_ORIGIN, Registry
from swm.recipe.parameter_words import ParameterWords
from swm.recipe.schema import SchemaWriter

INDENT = 2


def print_strategies(console: Console, entries: Sequence[Mapping[str, Any]], registry: Registry) -> None:
    """Print entries of the catalogue; texts are wrapped between words, and stand as their authors wrote them."""
    for kind, of_kind in groupby(sorted(entries, key=lambda e: (e["kind"], e["name"])), key=lambda e: e["kind"]):
        chosen = list(of_kind)
        classes = [registry.strategy(kind, entry["name"]) for entry in chosen]
        console.print(Text.assemble((one_line(kind), "bold underline"), f": {one_line(_purpose(classes[0]))}"))
        for entry, strategy in zip(chosen, classes, strict=True):
            _print_one(console, entry, strategy, registry)
        console.print()


def _print_one(console: Console, entry: Mapping[str, Any], strategy: type[Strategy], registry: Registry) -> None:
    marks = [" (the default)"] if strategy.is_default else []
    marks += [f" (from {one_line(entry['origin'])})"] if entry["origin"] != BUILTIN_ORIGIN else []
    console.print()
    console.print(_at(INDENT, Text.assemble((one_line(entry["name"]), "bold"), *marks)))
    console.print(_at(2 * INDENT, Text(one_line(entry["summary"]))))
    if entry["parameters"]:
        schema = SchemaWriter(registry).mapping_of(strategy)
        rows = Table.grid(padding=(0, 2))
        rows.add_column(no_wrap=True)
        rows.add_column()
        for name, parameter in entry["parameters"].items():
            allowed = schema["properties"].get(name, {})
            # A strategy may fill in a parameter by itself.
            beside = "required" if name in schema.get("required", []) else _default({**allowed, **parameter})
            about = "; ".join(filter(None, [ParameterWords().allowed(allowed), beside]))
            rows.add_row(Text(one_line(name)), Text(one_line(about)))
        console.print(_at(3 * INDENT, rows))
    if entry["paper"]:
        console.print(_at(2 * INDENT, Text(f"paper: {one_line(entry['paper'])}")))


def _default(described: Mapping[str, Any]) -> str:
    if "default" not in described:
        return ""
    return f"default: {'none' if described['default'] is None else described['default']}"


def _purpose(strategy: type[Strategy]) -> str:
    """The first sentence about the kind: that of the interface, which has its name."""
    interface = next(base for base in strategy.__mro__ if "kind" in vars(base))
    return (inspect.getdoc(interface) or "").split("\n\n")[0].replace("\n", " ")


def _at(indent: int, shown: Any) -> Padding:
    return Padding(shown, (0, 0, 0, indent), expand=False)
