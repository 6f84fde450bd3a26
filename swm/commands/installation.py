"""Commands that show what is installed: `strategies`, `schema`, `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swm.commands.options import Json, PluginFile, out, print_json, progress_of, say, warn_broken


def strategies(
    kind: Annotated[str | None, typer.Argument(help="Only this kind.")] = None,
    plugin: PluginFile = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """List what there is: every strategy, what its parameters may be, where it comes from, and its paper."""
    from swm.commands.strategy_list import print_strategies
    from swm.errors import RecipeError, unknown
    from swm.plugins.catalogue import catalogue
    from swm.plugins.loading import load_plugins

    plugins = load_plugins(plugin)
    warn_broken(plugins, as_json)
    entries = catalogue(plugins.registry)
    kinds = sorted({entry["kind"] for entry in entries})
    if kind is not None and kind not in kinds:
        raise RecipeError(unknown("kind", kind, kinds))
    chosen = [entry for entry in entries if kind in (None, entry["kind"])]
    if as_json:
        print_json(chosen)
        return
    print_strategies(out(), chosen, plugins.registry)


def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it to this file.")] = None,
    study: Annotated[bool, typer.Option("--study", help="That of study files instead.")] = False,
    plugin: PluginFile = [],  # noqa: B006
) -> None:
    """The JSON schema of recipes, for editors: every strategy with its parameters, plugins included."""
    from swm.plugins.loading import load_plugins
    from swm.recipe.schema import recipe_schema, write_schema
    from swm.study.schema import study_schema

    plugins = load_plugins(plugin)
    warn_broken(plugins, False)
    made = (study_schema if study else recipe_schema)(plugins.registry)
    if output is None:
        print_json(made)
        return
    write_schema(made, output)
    what = "study" if study else "recipe"
    say(
        f"wrote {output}; editors with a YAML language server read it where a {what} begins with\n"
        f"# yaml-language-server: $schema={output}"
    )


def doctor(
    model: Annotated[str | None, typer.Argument(help="A hub id, folder, GGUF file or registered name.")] = None,
    plugin: PluginFile = [],  # noqa: B006
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
    as_json: Json = False,
) -> None:
    """Check the installation and, given a model, what applies to it and why not."""
    from swm.commands.console import table
    from swm.commands.diagnosis import diagnose
    from swm.plugins.loading import load_plugins

    findings = diagnose(load_plugins(plugin), model, progress_of(as_json), trust_remote_code)
    if as_json:
        print_json(findings)
        return
    for title, rows in findings.items():
        out().print(table(title, ["", ""], [[key, value] for key, value in rows.items()]))
