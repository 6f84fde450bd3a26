"""The commands of `swm cache`: what studies keep of their observations."""

from __future__ import annotations

import typer

from swm.commands.command import Command
from swm.commands.options import Json, out, print_json, say

SCRATCH = "scratch"
app = typer.Typer(no_args_is_help=True, help="What studies keep, so that nothing is observed twice.")


@app.command(cls=Command)
def list(as_json: Json = False) -> None:
    """List the observations, the least recently used first, and the scratch folders of living and killed runs."""
    from swm.console import table
    from swm.html_format import size
    from swm.scratch import everywhere, size_of
    from swm.study.worker import cache

    found = cache()
    entries = found.entries()
    left = [(folder, size_of(folder), alive) for folder, alive in everywhere()]
    if as_json:
        kept = [{"path": str(e.file), "about": e.about, "bytes": e.size, "used": e.used} for e in entries]
        about = [{"path": str(f), "about": {"what": SCRATCH}, "bytes": n, "alive": alive} for f, n, alive in left]
        print_json([*kept, *about])
        return
    rows = [[e.about.get("what", "?"), str(e.about.get("model", ""))[:12], size(e.size), e.file.name] for e in entries]
    rows += [[SCRATCH, "in use" if alive else "of a dead run", size(n), str(f)] for f, n, alive in left]
    out().print(table("", ["what", "model", "size", "name"], rows))
    say(f"{len(entries)} in {found.folder}: {size(sum(e.size for e in entries))} of {size(found.limit)}")


@app.command(cls=Command)
def clear() -> None:
    """Remove all observations and what killed runs left; a folder that one of them had moved away comes back."""
    from swm.scratch import clear_all_dead
    from swm.study.worker import cache

    dead = clear_all_dead()
    say(f"removed {cache().shrink(0)} observations and {dead} scratch folders of killed runs")
