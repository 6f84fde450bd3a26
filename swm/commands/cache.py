"""The commands of `swm cache`: what is kept so that it need not be made again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import typer

from swm.commands.command import Command
from swm.commands.options import Json, out, print_json, say

SCRATCH = "scratch"
REST = "locks and other files"
# So many of one sort are a row each; more of them are one row together.
MANY = 20
# The command below is called list.
Rows: TypeAlias = "list[list[str]]"
Everything = Annotated[
    bool,
    typer.Option(
        "--all",
        help="Trainings and searches that could go on, converted models, texts that a model wrote and proofs of "
        "family rows too.",
    ),
]
app = typer.Typer(no_args_is_help=True, help="What swm keeps, so that nothing is made twice.")


@app.command(cls=Command)
def list(as_json: Json = False) -> None:
    """List observations, trainings, conversions, texts, proven family rows and scratch folders, also of killed runs."""
    from swm.cache.artifacts import artifacts
    from swm.cache.shared import shared_observations
    from swm.commands.console import table
    from swm.files.cache_folder import cache_folder
    from swm.files.scratch import all_scratch_folders, size_of
    from swm.report.html_format import size

    observations = shared_observations()
    entries = observations.entries()
    others = artifacts()
    left = [(folder, size_of(folder), alive) for folder, alive in all_scratch_folders()]
    folder = cache_folder()
    total = size_of(folder)
    within = [n for place, n, _ in left if place.resolve().is_relative_to(folder.resolve())]
    rest = max(0, total - sum([*(e.size for e in entries), *(e.size for e in others), *within]))
    if as_json:
        observed = [{"path": str(e.file), "about": e.about, "bytes": e.size, "used": e.used} for e in entries]
        made = [{"path": str(e.path), "about": {"what": e.what}, "bytes": e.size, "used": e.changed} for e in others]
        about = [{"path": str(f), "about": {"what": SCRATCH}, "bytes": n, "alive": alive} for f, n, alive in left]
        more = [{"path": str(folder), "about": {"what": REST}, "bytes": rest}] if rest else []
        print_json([*observed, *made, *about, *more])
        return
    kept_ones = [
        (str(e.about.get("what", "?")), str(e.about.get("model", ""))[:12], e.size, e.file.name) for e in entries
    ]
    rows = _rows([*kept_ones, *((e.what, "", e.size, e.path.name) for e in others)])
    rows += [[SCRATCH, "in use" if alive else "of a dead run", size(n), str(f)] for f, n, alive in left]
    rows += [[REST, "", size(rest), ""]] if rest else []
    out().print(table("", ["what", "model", "size", "name"], rows))
    kept, limit = size(sum(e.size for e in entries)), size(observations.limit)
    say(f"{len(entries)} observations in {observations.folder}: {kept} of {limit}")
    say(f"all of {folder}: {size(total)}")


def _rows(entries: Sequence[tuple[str, str, int, str]]) -> Rows:
    """A row for each entry (what, model, bytes, name), or one for all of a sort where there are many."""
    from swm.report.html_format import size

    sorts: dict[str, int] = {}
    for what, _, _, _ in entries:
        sorts[what] = sorts.get(what, 0) + 1
    rows = [[what, model, size(n), name] for what, model, n, name in entries if sorts[what] <= MANY]
    for what, count in sorts.items():
        if count > MANY:
            together = sum(n for sort, _, n, _ in entries if sort == what)
            rows.append([what, "", size(together), f"{count:,} of them; --json lists each"])
    return rows


@app.command(cls=Command)
def clear(everything: Everything = False) -> None:
    """Remove all observations and what killed runs left; a folder that one of them had moved away comes back."""
    from swm.cache.artifacts import remove_artifacts
    from swm.cache.shared import shared_observations
    from swm.files.scratch import clear_all_dead

    dead = clear_all_dead()
    say(f"removed {shared_observations().shrink(0)} observations and {dead} scratch folders of killed runs")
    if everything:
        say(f"removed {remove_artifacts()} trainings, searches, conversions, texts and proofs of family rows")
