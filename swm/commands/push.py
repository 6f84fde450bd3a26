"""The command that pushes a result to the Hugging Face Hub: `push`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swm.commands.options import Json, Quiet, print_json, say

if TYPE_CHECKING:
    from swm.hub.pushing import Push


def push(
    folder: Annotated[Path, typer.Argument(help="A result folder.", show_default=False)],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="The repository; made if it does not exist.", show_default=False)
    ],
    private: Annotated[
        bool | None,
        typer.Option(
            "--private/--public",
            help="Who sees a new repository. By default its owner's settings decide: public, unless an organisation "
            "says private.",
        ),
    ] = None,
    gguf: Annotated[
        list[Path], typer.Option(help="A GGUF file that lies elsewhere (again for more).", show_default=False)
    ] = [],  # noqa: B006
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all, say what would be sent, send nothing.")
    ] = False,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Push a result too that was saved with verify: fast or none.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Push a checked result to the Hugging Face Hub with its card; offline, say what would be sent, and exit with 2."""
    from swm.errors import HubError
    from swm.hub.pushing import prepare, send, why_not_now

    prepared = prepare(folder, repository, private, gguf, unverified)
    why = "" if dry_run else why_not_now()
    if not (quiet or as_json):
        _show(prepared)
    if not (dry_run or why):
        prepared = send(prepared)
    if as_json:
        print_json(prepared.to_dict())
    elif prepared.commit:
        for note in () if quiet else prepared.notes:
            say(f"note: {note}")
        say(prepared.commit if quiet else f"pushed: {prepared.commit}")
    elif dry_run and not quiet:
        say("nothing was sent: --dry-run")
    if why:
        raise HubError(f"nothing was sent to {prepared.repository}: {why}. All checks have passed")


def _show(prepared: Push) -> None:
    """The files, the card's metadata and the target."""
    from swm.files import yaml_file as yamlfile

    sizes = prepared.sizes
    for name, size in sizes.items():
        say(f"{size:>15,}  {name}")
    say(f"{sum(sizes.values()):>15,}  bytes in {len(sizes)} files")
    for name, why in prepared.left_out.items():
        say(f"{'stays here':>15}  {name}: {why}")
    results = [result for index in prepared.card.get("model-index", ()) for result in index["results"]]
    shown = {key: value for key, value in prepared.card.items() if key != "model-index"}
    say(f"\nmetadata of the card:\n{yamlfile.dump(shown).rstrip()}")
    for result in results:
        for metric in result["metrics"]:
            say(f"result: {result['dataset']['name']}, {metric.get('name', metric['type'])}: {metric['value']}")
    say(f"\nto: {prepared.repository}, if it is new: {prepared.visibility}")
