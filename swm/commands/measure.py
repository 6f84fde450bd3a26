"""Commands that measure: `evaluate`, `compare`, `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from swm.commands.options import Json, Memory, Overwrite, PluginFile, Quiet, out, print_json, progress_of, say


def evaluate(
    model: Annotated[str, typer.Argument(help="A hub id, folder, GGUF file or registered name.", show_default=False)],
    text: Annotated[str | None, typer.Option(help="A file, a hub data set, or a registered text.")] = None,
    preset: Annotated[str | None, typer.Option(help="llm-pruner-128 or standard-2048, for perplexity.")] = None,
    seq_len: Annotated[int | None, typer.Option(help="Tokens in a window of perplexity.")] = None,
    bos: Annotated[str | None, typer.Option(help="auto, each, first or none.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="End the text early.")] = None,
    task: Annotated[list[str], typer.Option("--task", help="An lm-eval task, seven or nine (again for more).")] = [],  # noqa: B006
    limit: Annotated[int | None, typer.Option(help="The first documents of each task alone.")] = None,
    num_fewshot: Annotated[int | None, typer.Option(help="Examples in each prompt.")] = None,
    include_path: Annotated[list[str], typer.Option(help="A folder of lm-eval task files.")] = [],  # noqa: B006
    task_data: Annotated[list[str], typer.Option(help="Data of a task from a file, as 'gsm8k: test.jsonl'.")] = [],  # noqa: B006
    max_gen_toks: Annotated[int | None, typer.Option(help="The most tokens of an answer that is written.")] = None,
    measure: Annotated[list[str], typer.Option("--measure", help="A measure, as in a recipe (again for more).")] = [],  # noqa: B006
    speed: Annotated[bool, typer.Option("--speed", help="Latency and throughput, 30 runs each.")] = False,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    memory: Memory = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
    plugin: PluginFile = [],  # noqa: B006
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure a model: perplexity unless tasks, speed or measures are asked for alone, each with its protocol."""
    from swm.commands.console import print_parts
    from swm.files import yaml_file as yamlfile
    from swm.plugins.loading import load_plugins
    from swm.report.tables import measured_parts
    from swm.run.evaluation import evaluate_model

    about_text = {"text": text, "preset": preset, "seq_len": seq_len, "bos": bos, "max_tokens": max_tokens}
    given = {key: value for key, value in about_text.items() if value is not None}
    wanted: dict[str, Any] = {"perplexity": given} if given or not (task or speed or measure) else {}
    about_tasks = {"tasks": task, "limit": limit, "num_fewshot": num_fewshot, "include_path": include_path}
    about_tasks["max_gen_toks"] = max_gen_toks
    wanted.update({key: value for key, value in about_tasks.items() if value or value == 0}, speed=speed)
    if task_data:
        wanted["task_data"] = _merged([yamlfile.parse(each, "--task-data")[0] for each in task_data])
    if measure:
        wanted["measures"] = [yamlfile.parse(each, "--measure")[0] for each in measure]
    result = evaluate_model(
        model,
        wanted,
        load_plugins(plugin),
        dtype=dtype,
        device=device,
        memory=memory,
        trust_remote_code=trust_remote_code,
        progress=progress_of(quiet or as_json),
    )
    if as_json:
        print_json(result)
        return
    print_parts(out(), measured_parts(result))


def _merged(given: list[Any]) -> Any:
    """All mappings in one. What is no mapping is left for the check of the recipe."""
    wrong = [each for each in given if not isinstance(each, dict)]
    return wrong[0] if wrong else {key: value for each in given for key, value in each.items()}


def compare(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT...", help="Output folders, or files of evaluate --json.")
    ],
    as_json: Json = False,
) -> None:
    """Show size and measures of several runs and of the original model; different protocols are refused."""
    from swm.commands.console import table
    from swm.measure.plus_minus import PLUS_MINUS
    from swm.report.comparison import columns, read_result
    from swm.report.comparison import compare as compared
    from swm.report.tables import shown, titled

    measured = columns([read_result(path) for path in results], results)
    rows = compared(measured)
    if as_json:
        names = [result.name for result in measured]
        print_json(
            {row.name: dict(zip(names, [value and vars(value) for value in row.values], strict=True)) for row in rows}
        )
        return
    cells = [[titled(row.name, row.scale), *(shown(value, row.scale) for value in row.values)] for row in rows]
    out().print(table("", [PLUS_MINUS, *(result.name for result in measured)], cells))


def inspect(
    model: Annotated[str, typer.Argument(help="A hub id, folder, GGUF file or registered name.", show_default=False)],
    out_: Annotated[Path | None, typer.Option("--output", "-o", help="A new folder for figures and numbers.")] = None,
    similarity: Annotated[str | None, typer.Option(help="A metric of hidden states, as in a recipe.")] = None,
    text: Annotated[str | None, typer.Option(help="A file, a hub data set, or a registered text.")] = None,
    samples: Annotated[int | None, typer.Option(help="Samples of the text.")] = None,
    seq_len: Annotated[int | None, typer.Option(help="Tokens in a sample.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw of the samples.")] = 0,
    patch_threshold: Annotated[float | None, typer.Option(help="Layers at least so alike make a patch.")] = None,
    overwrite: Overwrite = False,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    memory: Memory = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
    plugin: PluginFile = [],  # noqa: B006
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show how alike a model's layers are, what each of them changes, and how large the hidden states get."""
    from swm.commands.console import show_inspection
    from swm.files import yaml_file as yamlfile
    from swm.plugins.loading import load_plugins
    from swm.report.inspection_files import check_folder, write_inspection
    from swm.run.inspecting import build_inspection, inspect_named

    plugins = load_plugins(plugin)
    source = yamlfile.parse(text, "--text")[0] if text is not None and text.lstrip().startswith("{") else text
    calibration = {"text": source, "samples": samples, "seq_len": seq_len}
    metric = None if similarity is None else yamlfile.parse(similarity, "--similarity")[0]
    about = {"similarity": metric, "patch_threshold": patch_threshold}
    given = {key: value for key, value in about.items() if value is not None}
    drawn = {key: value for key, value in calibration.items() if value is not None}
    options = {"seed": seed, "dtype": dtype, "device": device, "memory": memory, "trust_remote_code": trust_remote_code}
    recipe = build_inspection({"model": model, "calibration": drawn, **given, **options}, plugins)
    folder = None if out_ is None else check_folder(out_, overwrite)
    inspection = inspect_named(recipe, plugins, progress_of(quiet or as_json), folder)
    if out_ is not None:
        write_inspection(inspection, out_, overwrite)
    data = inspection.to_dict()
    if as_json:
        print_json(data)
        return
    if not quiet:
        show_inspection(out(), inspection)
    if out_ is not None:
        say(str(out_) if quiet else f"saved: {out_}")
