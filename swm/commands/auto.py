"""The command `auto`: a recipe is chosen, and run."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from swm.commands.options import Json, Memory, Overwrite, PluginFile, Quiet, VerifyOption, print_json, progress_of, say


class ResultLayout(StrEnum):
    """Layouts of recipes in `swm/choosing/recipes.yaml`, written here so that `--help` needs no heavy library."""

    native = "native"
    custom = "custom"


def auto(
    model: Annotated[str, typer.Argument(help="A hub id, folder, GGUF file or registered name.", show_default=False)],
    ratio: Annotated[float | None, typer.Option(help="Remove this share of all parameters: 0.2.")] = None,
    layers: Annotated[int | None, typer.Option(help="Remove so many layers.")] = None,
    params: Annotated[int | None, typer.Option(help="Remove so many parameters.")] = None,
    minutes: Annotated[float, typer.Option(help="How long all of it may take, saving and checking included.")] = 20,
    calibration: Annotated[
        str | None,
        typer.Option(help="A file, a hub data set, or a registered text; best is text like the model's later use."),
    ] = None,
    recovery: Annotated[
        bool,
        typer.Option(
            "--recovery/--no-recovery", help="Whether a recovery may follow; layers may be fitted either way."
        ),
    ] = True,
    recovery_text: Annotated[
        str | None, typer.Option(help="The text of the training; by default that of the calibration.")
    ] = None,
    evaluate: Annotated[
        bool,
        typer.Option("--evaluate/--no-evaluate", help="Perplexity before and after, on a part that is held out."),
    ] = True,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder to write; by default MODEL-auto.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the recipe and why, and stop there.")] = False,
    layout: Annotated[
        ResultLayout, typer.Option(help="custom: also recipes whose result loads with trust_remote_code alone.")
    ] = ResultLayout.native,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    memory: Memory = None,
    verify: VerifyOption = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
    plugin: PluginFile = [],  # noqa: B006
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Choose the recipe that was measured to be the best for a target and so many minutes, say why, and run it."""
    started = time.perf_counter()
    from swm.choosing.chooser import Chooser
    from swm.choosing.wanted import Wanted

    keys: dict[str, Any] = {"seed": seed, "dtype": dtype, "device": device, "trust_remote_code": trust_remote_code}
    keys |= {} if memory is None else {"memory": memory}
    keys |= {} if verify is None else {"verify": verify.value}
    chooser = Chooser(
        model,
        Wanted(ratio, layers, params, minutes, recovery),
        calibration=_text(calibration, "--calibration"),
        recovery_text=_text(recovery_text, "--recovery-text"),
        evaluate=evaluate,
        output=Path(f"{Path(model).name}-auto") if output is None else output,
        layout=layout.value,
        overwrite=overwrite,
        progress=progress_of(quiet or as_json),
        plugin_files=plugin,
        options=keys,
        started=started,
    )
    if dry_run:
        _show_choice(chooser, quiet, as_json)
        return
    from swm.commands.run import show_run

    result = chooser.run()
    show_run(result, quiet, as_json)


def _text(value: str | None, option: str) -> Any:
    """A text as in a recipe: a name, a path, or a mapping in YAML."""
    from swm.files import yaml_file as yamlfile

    return yamlfile.parse(value, option)[0] if value is not None and value.lstrip().startswith("{") else value


def _show_choice(chooser: Any, quiet: bool, as_json: bool) -> None:
    from swm.commands.command import stdout
    from swm.files import yaml_file as yamlfile

    choice = chooser.choice()
    recipe = choice.recipe.resolved()
    if as_json:
        print_json({"recipe": recipe, "why": list(choice.why), "seconds": round(choice.seconds, 1)})
        return
    for line in () if quiet else choice.why:
        say(line, err=True)
    typer.echo(yamlfile.dump(recipe), stdout(), nl=False)
