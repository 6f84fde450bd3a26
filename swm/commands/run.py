"""Commands that run: `compress`, `plan`, `apply`, `diff`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swm.checkpoint.level import FULL, level_of, level_sentence
from swm.commands.command import stdout
from swm.commands.options import (
    Json,
    Memory,
    Overwrite,
    PlanPlugins,
    PluginFile,
    Quiet,
    Recipe,
    Set,
    VerifyOption,
    out,
    print_json,
    progress_of,
    say,
    warn_broken,
)

if TYPE_CHECKING:
    from swm.plan.plan import Plan
    from swm.run.result import RunResult


class Layout(StrEnum):
    """The forms of `swm.checkpoint.export`, written here so that `--help` needs no heavy library."""

    native = "native"
    padded = "padded"
    custom = "custom"
    merged = "merged"
    factored = "factored"
    nemotron_nas = "nemotron-nas"
    gguf = "gguf"


def compress(
    recipe: Recipe,
    set_: Set = [],  # noqa: B006  typer reads the default, nobody changes it
    plugin: PluginFile = [],  # noqa: B006
    verify: VerifyOption = None,
    overwrite: Overwrite = False,
    keep_rejected: Annotated[
        bool, typer.Option("--keep-rejected", help="Save a result that misses a limit of `accept` all the same.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a recipe: compress, measure, save, verify; exit code 3 when a limit of its `accept` is missed."""
    from swm.recipe.loading import load_recipe, placed
    from swm.run.pipeline import CompressionPipeline

    if verify is not None:
        set_ = [*set_, f"verify={verify.value}"]
    built, plugins = load_recipe(recipe, set_, plugin)
    warn_broken(plugins, quiet)
    with placed(recipe, set_):
        progress = progress_of(quiet or as_json)
        pipeline = CompressionPipeline(
            built, plugins, progress, overwrite, inputs=[recipe], keep_rejected=keep_rejected
        )
        result = pipeline.run()
    show_run(result, quiet, as_json)
    if result.rejected:
        say(f"rejected: {result.rejected}", fg="red", err=True)
        raise typer.Exit(3)


def plan(
    recipe: Recipe,
    set_: Set = [],  # noqa: B006
    plugin: PluginFile = [],  # noqa: B006
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the plan to this file.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Decide what a recipe would change, and stop there."""
    from swm.files.outputs import output_file
    from swm.recipe.loading import load_recipe, placed
    from swm.run.pipeline import CompressionPipeline

    written = [] if output is None else [output := output_file(output, "plan")]
    built, plugins = load_recipe(recipe, [*set_, "output=null"], plugin)
    warn_broken(plugins, quiet)
    with placed(recipe, set_):
        pipeline = CompressionPipeline(built, plugins, progress_of(quiet or as_json), written=written)
        made = pipeline.plan()
    for note in () if quiet else pipeline.notes:
        say(f"note: {note}", fg="yellow", err=True)
    if output is not None:
        made.write(output)
    if as_json:
        print_json(made.to_data())
    elif output is None or not quiet:
        _show_plan(made, output)


def apply(
    plan_file: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan.yaml.", show_default=False)],
    output: Annotated[str, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
    model: Annotated[str | None, typer.Option(help="The original model; by default the plan's own source.")] = None,
    plugin: PluginFile = [],  # noqa: B006
    plan_plugins: PlanPlugins = False,
    layout: Annotated[
        Layout,
        typer.Option(
            help="native: all layers have one shape; padded, custom: layers of different widths; merged, factored: "
            "projections in factors; nemotron-nas: different widths for mlx-lm and others; gguf: with a file for "
            "llama.cpp. What has true shapes loads with trust_remote_code."
        ),
    ] = Layout.native,
    memory: Memory = None,
    verify: VerifyOption = None,
    overwrite: Overwrite = False,
    structure_only: Annotated[
        bool, typer.Option("--structure-only", help="Leave trainings out, which a plan cannot repeat.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Replay a plan on the original model, without data."""
    from swm.plan.needs import trusted_files
    from swm.plan.reading import read_plan
    from swm.plugins.loading import load_plugins
    from swm.run.replay import replay

    plugins = load_plugins([*plugin, *(trusted_files(plan_file) if plan_plugins else ())])
    made = read_plan(plan_file, plugins.registry)
    progress = progress_of(quiet or as_json)
    run = replay(
        made,
        plugins,
        output,
        model=model,
        overwrite=overwrite,
        progress=progress,
        layout=layout.value,
        memory=memory,
        structure_only=structure_only,
        inputs=[plan_file],
        verify=FULL if verify is None else verify.value,
    )
    show_run(run, quiet, as_json)


def diff(
    old: Annotated[Path, typer.Argument(help="A plan.yaml.", show_default=False)],
    new: Annotated[Path, typer.Argument(help="Another one.", show_default=False)],
    plugin: PluginFile = [],  # noqa: B006
    plan_plugins: PlanPlugins = False,
    as_json: Json = False,
) -> None:
    """Show what differs between two plans; exit code 1 when something does."""
    from swm.commands.console import print_text
    from swm.plan.diff import diff_plans
    from swm.plan.needs import trusted_files
    from swm.plan.reading import read_plan
    from swm.plugins.loading import load_plugins

    named = [file for plan_file in (old, new) for file in trusted_files(plan_file)] if plan_plugins else []
    registry = load_plugins([*plugin, *named]).registry
    lines = diff_plans(read_plan(old, registry), read_plan(new, registry))
    if as_json:
        print_json(lines)
    else:
        for line in lines:
            print_text(out(), line, "red" if line.startswith("-") else "green")
    raise typer.Exit(1 if lines else 0)


def show_run(result: RunResult, quiet: bool, as_json: bool) -> None:
    """What a run left: as JSON, as tables, or the folder alone."""
    from swm.commands.console import drawn, print_text
    from swm.report.record import RunReport
    from swm.report.tables import report_table, speed_table
    from swm.report.tokens_used import used_sentences

    if not result.report:
        return  # one of several processes, and not the one that prints
    if as_json:
        print_json(result.report)
        return
    if not quiet:
        console, report = out(), RunReport.model_validate(result.report)
        for line in result.plan.lines():
            print_text(console, line)
        console.print(drawn(report_table(report)))
        for line in used_sentences(report.tokens_used):
            print_text(console, line)
        for answer in report.given_answers():
            print_text(console, f"\n{answer['prompt']}", "bold")
            for which in ("dense", "compressed"):
                print_text(console, f"  {which}: {answer[which]}")
        if result.speed:
            console.print(drawn(speed_table(result.speed)))
        for note in [*report.notes, *result.speed.get("warnings", [])]:
            print_text(console, f"note: {note}", "yellow")
        check = report.verification
        level = level_of(check)
        if level not in (None, FULL):
            print_text(console, f"\n{level_sentence(check)}", "yellow")
        elif check:
            print_text(
                console,
                f"\nreloaded in a fresh process as {check['class']}: "
                f"max |difference of logits| = {check['max_abs_difference']:g}, generate() equal",
            )
            for form, name in (("multiplied", "factors multiplied out"), ("padded", "zeros in the layers")):
                if form in check:
                    print_text(console, _rounding_line(name, check[form]))
    if result.unsaved and not quiet:
        say(result.unsaved, fg="yellow")
    if result.output is not None:
        what = "saved" if result.report.get("verification") else "not saved; report"
        say(f"{what}: {result.output}" if not quiet else str(result.output))


def _rounding_line(form: str, check: Mapping[str, Any]) -> str:
    tokens = "equal" if check["generated_equal"] else "gives other tokens"
    return (
        f"{form}, against the model in memory: max |difference of logits| = "
        f"{check['max_abs_difference']:g} (allowed {check['tolerance']:g}), generate() {tokens}"
    )


def _show_plan(made: Plan, output: Path | None) -> None:
    from swm.commands.console import limit_line
    from swm.files import yaml_file as yamlfile

    if output is None:
        typer.echo(yamlfile.dump(made.to_data()), stdout(), nl=False)
        return
    for line in made.lines():
        say(line)
    for stage in made.stages:
        if "limit" in stage.facts:
            say(limit_line(stage.stage, stage.facts["limit"]))
    say(f"saved: {output}")
