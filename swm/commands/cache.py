"""The commands of `swm cache`: what studies keep of their observations."""

from __future__ import annotations

import typer

from swm.commands.options import Json, out, print_json, say

app = typer.Typer(no_args_is_help=True, help="What studies keep, so that nothing is observed twice.")


@app.command()
def list(as_json: Json = False) -> None:
    """List the observations, the least recently used first."""
    from swm.console import table
    from swm.html_format import size
    from swm.study.worker import cache

    found = cache()
    entries = found.entries()
    if as_json:
        print_json([{"path": str(e.file), "about": e.about, "bytes": e.size, "used": e.used} for e in entries])
        return
    rows = [[e.about.get("what", "?"), str(e.about.get("model", ""))[:12], size(e.size), e.file.name] for e in entries]
    out().print(table("", ["what", "model", "size", "name"], rows))
    say(f"{len(entries)} in {found.folder}: {size(sum(e.size for e in entries))} of {size(found.limit)}")


@app.command()
def clear() -> None:
    """Remove all of them."""
    from swm.study.worker import cache

    say(f"removed {cache().shrink(0)}")
