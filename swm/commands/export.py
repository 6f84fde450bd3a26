"""The command that writes a model for other runtimes: `export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from swm.commands.options import Json, PluginFile, Quiet, print_json, progress_of, say


class Form(StrEnum):
    """What a model can be exported to."""

    gguf = "gguf"


class NumberTypes(StrEnum):
    """The types of numbers in a file."""

    auto = "auto"
    f32 = "f32"
    f16 = "f16"
    bf16 = "bf16"
    q8_0 = "q8_0"


def export(
    model: Annotated[
        str, typer.Argument(help="A result folder, hub id, GGUF file or registered name.", show_default=False)
    ],
    to: Annotated[Form, typer.Option(help="The form.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file.", show_default=False)],
    type_: Annotated[
        NumberTypes, typer.Option("--type", help="The type of the weights; auto: as the folder stores them.")
    ] = NumberTypes.auto,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    plugin: PluginFile = [],  # noqa: B006
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a model as one GGUF file for llama.cpp, in its true shapes."""
    from swm.gguf.exporting import export_gguf
    from swm.plugins.loading import load_plugins

    written = export_gguf(
        model,
        output,
        load_plugins(plugin).registry,
        number_type=type_.value,
        overwrite=overwrite,
        progress=progress_of(quiet or as_json),
    )
    if as_json:
        print_json(written.to_dict())
        return
    if quiet:
        say(str(output))
        return
    for note in written.notes:
        say(f"note: {note}")
    about = (
        f"{written.layers} layers, {written.parameters:,} parameters, {written.number_type}, {written.bytes:,} bytes"
    )
    say(f"saved: {output} (architecture {written.architecture}, {about})")
