"""The commands of `swm study`: many recipes, one comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swm.commands.command import Command
from swm.commands.options import Json, PluginFile, Quiet, Set, out, print_json, progress_of, say, warn_broken
from swm.measure.metrics import format_number
from swm.measure.plus_minus import PLUS_MINUS

if TYPE_CHECKING:
    from swm.interfaces.executor import Row
    from swm.study.results import Results

app = typer.Typer(no_args_is_help=True, help="Run many recipes, measured alike, and compare them.")
StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="A study in YAML.", show_default=False)]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A study's output folder.", show_default=False)]


@app.command(cls=Command)
def run(
    study: StudyFile,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The folder of its results.")] = None,
    set_: Set = [],  # noqa: B006  typer reads the default, nobody changes it
    plugin: PluginFile = [],  # noqa: B006
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run again what failed before.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run what has not been run yet; the same command goes on after a kill, and several may share a folder."""
    from swm.study.studies import run_study

    def tell(row: Row) -> None:
        if not (quiet or as_json):
            say(_line(row), fg=None if row["state"] == "done" else "red", err=True)

    tally, results = run_study(
        study,
        output,
        overrides=set_,
        plugin_files=plugin,
        retry_failed=retry_failed,
        progress=progress_of(quiet or as_json),
        tell=tell,
        loaded_done=lambda plugins: warn_broken(plugins, quiet),
        note=_note if not quiet else lambda text: None,
    )
    _show(results, quiet, as_json)
    if tally.failed:
        raise typer.Exit(1)


@app.command(cls=Command)
def plan(
    study: StudyFile,
    set_: Set = [],  # noqa: B006
    plugin: PluginFile = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Show what a study would run, every recipe checked."""
    from swm.commands.console import table
    from swm.study.loading import load_study
    from swm.study.studies import checked_runs

    loaded = load_study(study, set_, plugin)
    with loaded.placed():
        planned = checked_runs(loaded)
    if as_json:
        print_json([{"id": run.id, "kind": run.kind, "name": run.name} for run in planned.runs])
        return
    out().print(table("", ["run", "kind", "id"], [[run.name, run.kind, run.id] for run in planned.runs]))
    for line in planned.left_out:
        _note(f"baseline left out: {line}")


@app.command(cls=Command)
def show(folder: Folder, as_json: Json = False) -> None:
    """Show the results so far, and write the tables, the figures and study.html anew."""
    from swm.study.results import read_results
    from swm.study.showing import write_results

    results = read_results(folder)
    write_results(results, _note)
    _show(results, False, as_json)


@app.command(cls=Command)
def watch(
    folder: Folder,
    every: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds between two looks at the folder.")] = 1.0,
) -> None:
    """Watch a study that some process runs: its table and what each worker does, until it ends.

    Only files of the folder are read: Ctrl-C ends the view and leaves the study alone. Where the output is no terminal,
    the study is shown once.
    """
    from swm.commands.study_watch import watch_study
    from swm.study.watching import Watch

    watch_study(out(), Watch(folder), every)


@app.command(cls=Command)
def compare(
    one: Folder,
    other: Annotated[Path, typer.Argument(metavar="OTHER", help="Another one.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Compare two studies: at each budget their best, and whether the difference exceeds the noise."""
    from swm.commands.console import table
    from swm.study.comparison import compare_studies

    comparison = compare_studies(one, other)
    if as_json:
        print_json(comparison)
        return
    rows = [[line["budget"], line["one"], line["other"], line["verdict"]] for line in comparison["budgets"]]
    head = f"by {comparison['rank_by']}, {PLUS_MINUS}; corrected for {len(rows)} budgets (Holm)"
    out().print(table(head, ["removed", str(one), str(other), "verdict"], rows))


@app.command(cls=Command)
def presets() -> None:
    """List the ready-made studies."""
    from swm.study.loading import presets

    for name, about in presets().items():
        say(f"{name}: {about}")


def _note(text: str) -> None:
    say(f"note: {text}", fg="yellow", err=True)


def _line(row: Row) -> str:
    """A run in a line: its results, or why it failed."""
    if row["state"] != "done":
        return f"{row['name']}: failed: {row['error']}"
    from swm.study.measures import MEAN

    wanted = ("perplexity", MEAN)
    shown = [f"{name} {format_number(row['measures'][name][0], 2)}" for name in wanted if name in row["measures"]]
    shown.append(f"{row['seconds']:.0f} s")
    rejected = f"; rejected: {row['rejected']}" if row.get("rejected") else ""
    return f"{row['name']}: {', '.join(shown)}{rejected}"


def _show(results: Results, quiet: bool, as_json: bool) -> None:
    from swm.study.results import PAGE

    if as_json:
        from swm.study.results_data import results_data

        print_json(results_data(results))
        return
    if not quiet:
        from swm.commands.console import print_parts

        print_parts(out(), results.parts())
    say(f"saved: {results.folder / PAGE}" if not quiet else str(results.folder / PAGE))
