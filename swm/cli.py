"""The `swm` command. Heavy libraries are imported inside the commands, so that `swm --help` answers at once."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swm.errors import SwmError

if TYPE_CHECKING:
    from rich.console import Console

    from swm.pipeline import RunResult
    from swm.plan import Plan
    from swm.plugins import Plugins
    from swm.progress import Progress

app = typer.Typer(
    name="swm",
    help="Make large language models smaller by structured pruning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Recipe = Annotated[Path, typer.Argument(help="A recipe in YAML.", show_default=False)]
Set = Annotated[list[str], typer.Option("--set", help="Override: stages.0.depth.target.ratio=0.35 (again for more).")]
PluginFile = Annotated[list[str], typer.Option("--plugin", help="A Python file with strategies (again for more).")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no tables.")]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output folder.")]


class Layout(StrEnum):
    """The forms of `swm.export`, told here so that `--help` needs no heavy library."""

    native = "native"
    padded = "padded"
    custom = "custom"


@app.command()
def compress(
    recipe: Recipe,
    set_: Set = [],  # noqa: B006  typer reads the default, nobody changes it
    plugin: PluginFile = [],  # noqa: B006
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a recipe: compress, measure, save, verify."""
    from swm.pipeline import CompressionPipeline
    from swm.recipe import load_recipe, placed

    built, plugins = load_recipe(recipe, set_, plugin)
    _warn_broken(plugins, quiet)
    with placed(recipe, set_):
        result = CompressionPipeline(built, plugins, _progress(quiet or as_json), overwrite).run()
    _show_run(result, quiet, as_json)


@app.command()
def plan(
    recipe: Recipe,
    set_: Set = [],  # noqa: B006
    plugin: PluginFile = [],  # noqa: B006
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the plan to this file.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Decide what a recipe would change, and stop there."""
    from swm.errors import PlanError
    from swm.pipeline import CompressionPipeline
    from swm.recipe import load_recipe, placed

    if output is not None and not output.parent.is_dir():
        raise PlanError(f"plan {output} cannot be written: folder {output.parent} does not exist")
    if output is not None and output.is_dir():
        raise PlanError(f"plan {output} cannot be written: it is a folder; name a file in it")
    built, plugins = load_recipe(recipe, [*set_, "output=null"], plugin)
    _warn_broken(plugins, quiet)
    with placed(recipe, set_):
        made = CompressionPipeline(built, plugins, _progress(quiet or as_json)).plan()
    if output is not None:
        made.write(output)
    if as_json:
        _print_json(made.to_data())
    elif output is None or not quiet:
        _show_plan(made, output)


@app.command()
def apply(
    plan_file: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan.yaml.", show_default=False)],
    output: Annotated[str, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
    model: Annotated[str | None, typer.Option(help="The original model; by default the plan's own source.")] = None,
    plugin: PluginFile = [],  # noqa: B006
    layout: Annotated[Layout, typer.Option(help="The last two are for uneven widths.")] = Layout.native,
    overwrite: Overwrite = False,
    structure_only: Annotated[
        bool, typer.Option("--structure-only", help="Leave trainings out, which a plan cannot repeat.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Replay a plan on the original model, without data."""
    from swm.plan import read_plan
    from swm.plugins import load_plugins
    from swm.replay import replay

    plugins = load_plugins(plugin)
    made = read_plan(plan_file, plugins.registry)
    progress = _progress(quiet or as_json)
    run = replay(
        made,
        plugins,
        output,
        model=model,
        overwrite=overwrite,
        progress=progress,
        layout=layout.value,
        structure_only=structure_only,
    )
    _show_run(run, quiet, as_json)


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="A plan.yaml.", show_default=False)],
    new: Annotated[Path, typer.Argument(help="Another one.", show_default=False)],
    plugin: PluginFile = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Show what differs between two plans; exit code 1 when something does."""
    from swm.plan import diff_plans, read_plan
    from swm.plugins import load_plugins

    registry = load_plugins(plugin).registry
    lines = diff_plans(read_plan(old, registry), read_plan(new, registry))
    if as_json:
        _print_json(lines)
    else:
        for line in lines:
            _out().print(line, style="red" if line.startswith("-") else "green", highlight=False, markup=False)
    raise typer.Exit(1 if lines else 0)


@app.command()
def strategies(
    kind: Annotated[str | None, typer.Argument(help="Only this kind.")] = None,
    plugin: PluginFile = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """List what there is: every strategy with its parameters, its origin and its paper."""
    from swm.catalogue import catalogue
    from swm.console import table
    from swm.errors import RecipeError, unknown
    from swm.plugins import load_plugins

    plugins = load_plugins(plugin)
    entries = catalogue(plugins.registry)
    kinds = sorted({entry["kind"] for entry in entries})
    if kind is not None and kind not in kinds:
        raise RecipeError(unknown("kind", kind, kinds))
    chosen = [entry for entry in entries if kind in (None, entry["kind"])]
    if as_json:
        _print_json(chosen)
        return
    for each in sorted({entry["kind"] for entry in chosen}):
        rows = [[e["name"], e["summary"], e["shown"], e["origin"]] for e in chosen if e["kind"] == each]
        _out().print(table(each, ["name", "what it does", "parameters", "from"], rows))


@app.command()
def doctor(
    model: Annotated[str | None, typer.Argument(help="A hub id, folder, GGUF file or registered name.")] = None,
    plugin: PluginFile = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Check the installation and, given a model, what applies to it and why not."""
    from swm.console import table
    from swm.doctor import diagnose
    from swm.plugins import load_plugins

    findings = diagnose(load_plugins(plugin), model, _progress(as_json))
    if as_json:
        _print_json(findings)
        return
    for title, rows in findings.items():
        _out().print(table(title, ["", ""], [[key, value] for key, value in rows.items()]))


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A hub id, folder, GGUF file or registered name.", show_default=False)],
    text: Annotated[str | None, typer.Option(help="A file, a hub data set, or a registered text.")] = None,
    seq_len: Annotated[int, typer.Option(help="Tokens in a window.")] = 512,
    bos: Annotated[str, typer.Option(help="auto, each, first or none.")] = "auto",
    max_tokens: Annotated[int | None, typer.Option(help="End the text early.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
    plugin: PluginFile = [],  # noqa: B006
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure the perplexity of a model, with the protocol beside it."""
    from swm.evaluation import evaluate_model
    from swm.plugins import load_plugins

    result = evaluate_model(
        model,
        {"text": text, "seq_len": seq_len, "bos": bos, "max_tokens": max_tokens},
        load_plugins(plugin),
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
        progress=_progress(quiet or as_json),
    )
    if as_json:
        _print_json(result)
        return
    protocol = result["perplexity"]["protocol"]
    error = result["perplexity"].get("standard_error")
    spread = f" ± {error:.2f}" if error is not None else ""
    _out().print(
        f"perplexity {result['perplexity']['value']:.3f}{spread} on {protocol['text']['name']}: "
        f"{protocol['scored_tokens']} tokens, windows of {protocol['seq_len']}, BOS: {protocol['bos']}"
    )


def _show_run(result: RunResult, quiet: bool, as_json: bool) -> None:
    from swm.console import report_table

    if as_json:
        _print_json(result.report)
        return
    if not quiet:
        console = _out()
        for line in result.plan.lines():
            console.print(line, highlight=False, markup=False)
        console.print(report_table(result.report))
        asked = result.report.get("answers", {})
        for i, prompt in enumerate(asked.get("prompts", [])):
            console.print(f"\n[bold]{prompt}[/bold]", highlight=False)
            for which in ("dense", "compressed"):
                console.print(f"  {which}: {asked[which][i]}", highlight=False, markup=False)
        for note in result.report.get("notes", []):
            console.print(f"note: {note}", style="yellow", highlight=False)
        check = result.report.get("verification")
        if check:
            console.print(
                f"\nreloaded in a fresh process as {check['class']}: "
                f"max |difference of logits| = {check['max_abs_difference']:g}, generate() equal",
                highlight=False,
            )
    if result.output is not None:
        typer.echo(f"saved: {result.output}" if not quiet else str(result.output))


def _show_plan(made: Plan, output: Path | None) -> None:
    from swm import yamlfile

    if output is None:
        typer.echo(yamlfile.dump(made.to_data()), nl=False)
        return
    for line in made.lines():
        typer.echo(line)
    typer.echo(f"saved: {output}")


def _warn_broken(plugins: Plugins, quiet: bool) -> None:
    for broken in plugins.broken:
        if not quiet:
            typer.secho(f"warning: {broken}", fg="yellow", err=True)


def _progress(quiet: bool) -> Progress:
    if quiet:
        from swm.progress import Silent

        return Silent()
    from rich.console import Console

    from swm.console import ConsoleProgress

    # The stream is fixed here: what other libraries write to standard error is kept from it for a while.
    return ConsoleProgress(Console(file=sys.stderr))


def _out() -> Console:
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=110)


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def main() -> None:
    """The entry point: errors of the user in one line and exit code 2, no traceback."""
    # Libraries below print progress bars and advice of their own.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except SwmError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.secho("interrupted; nothing was left half-written", fg="red", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
