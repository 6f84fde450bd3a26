"""What each way of compressing costs in perplexity and in the seven tasks, with and without repair.

    python benchmarks/quality.py --text wiki.test.raw --calibration c4.jsonl.gz

Rows are kept in benchmarks/rows/ and a run that was stopped goes on where it was; RESULTS.md gets the tables. `--only`
takes names of rows, with `*` for anything.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from quality_figure import draw
from results import Rows, forget_peak, markdown_table, peak_memory, write_section
from row_stages import TUNED_NAME, begun_by, whole_seconds

from swm.cache.shared import shared_observations
from swm.errors import SwmError
from swm.plan.plan import PlannedStage
from swm.plugins.loading import load_plugins
from swm.recipe.building import build_recipe
from swm.run.pipeline import CompressionPipeline

IMAGES = Path(__file__).parent.parent / "docs" / "images"
Settings = dict[str, Any]
EACH = {"name": "cosine", "tokens": "each"}
JOINT = {"name": "least-squares", "projections": ["attention.o", "mlp.down"]}
REPAIR: Settings = {"repair": {}}
LAYERS, RATIOS = (6, 10), (0.2, 0.35)
DEPTH: dict[str, Settings] = {
    "last": {"pruner": "last"},
    "random": {"pruner": "random"},
    "block-influence": {"pruner": "block-influence"},
    "contiguous": {"pruner": "contiguous"},
    "single-loss": {"pruner": "single-loss"},
    "greedy-loss": {"pruner": "greedy-loss"},
    "laco": {"pruner": "laco", "similarity": EACH},
    "SWM, released": {"pruner": {"name": "sliding-window", "quirks": "released"}},
    "SWM, fixed, each token": {"pruner": "sliding-window", "similarity": EACH},
    "block-influence, average": {"pruner": "block-influence", "merger": "average"},
    "block-influence, ema": {"pruner": "block-influence", "merger": "ema"},
    "contiguous, linear (ReplaceMe)": {"pruner": "contiguous", "merger": "linear"},
    "block-influence, linear": {"pruner": "block-influence", "merger": "linear"},
    "block-influence, least-squares": {"pruner": "block-influence", "merger": "least-squares"},
    "SWM, fixed, least-squares": {"pruner": "sliding-window", "similarity": EACH, "merger": "least-squares"},
    "block-influence, least-squares, attention too": {"pruner": "block-influence", "merger": JOINT},
    "contiguous, least-squares, attention too": {"pruner": "contiguous", "merger": JOINT},
    "best-windows, least-squares, attention too": {
        "pruner": "best-windows",
        "merger": JOINT,
        "search_merger": "least-squares",
    },
    "block-influence, best-neurons": {"pruner": "block-influence", "merger": "best-neurons"},
    "block-influence, distilled": {"pruner": "block-influence", "merger": "distilled"},
    "greedy-loss, best-neurons": {"pruner": "greedy-loss", "merger": "best-neurons", "search_merger": "delete"},
    "greedy-loss, distilled": {"pruner": "greedy-loss", "merger": "distilled", "search_merger": "delete"},
}
MORE_TEXT = (
    "block-influence, least-squares, attention too",
    "block-influence, best-neurons",
    "block-influence, distilled",
    "greedy-loss, best-neurons",
    "greedy-loss, distilled",
)
"""Fitted on four times the samples as well, and on as many of the text whose beginning is scored."""
LONGER = "block-influence, distilled, 10 epochs, more text"
TRAININGS: dict[str, Settings] = {
    "LoRA": {"name": "lora", "learning_rate": 2e-4},
    "distillation": {"name": "distill", "trains": "all", "learning_rate": 5e-5},
}
OTHER_TRAININGS: dict[str, Settings] = {
    "LoRA at a rate found in seconds": {"name": "lora", "learning_rate": "auto"},
    "LoRA of the merged layers first": {"name": "lora", "learning_rate": 2e-4, "changed_first": 0.3},
}
"""What else a training can do, after the first of these."""
BEST = (
    "block-influence, least-squares, attention too, more text | 6 layers",
    "block-influence, least-squares, attention too, more text | 10 layers",
    "wanda, least-squares | 20%",
    "greedy-loss, distilled, more text | 10 layers",
)
"""What is trained as well."""
BLOCKS: Settings = {"span": 30, "epochs": 20, "batch": 4, "learning_rate": 5e-4, "mixed_precision": "bf16"}
"""Fits of whole blocks."""
TUNED: Settings = {
    "name": "distill",
    "trains": "all",
    "learning_rate": 3e-4,
    "batch": 4,
    "micro_batch": 4,
    "warm_up": 20,
    "mixed_precision": "bf16",
}
"""What helps most in ten minutes: many small steps."""
LONG_NAME = ", long pieces"
"""With samples and pieces of 512 tokens, half as many a step, and all layers trained as blocks, with these rates."""
GENTLE = 3e-4, 2e-4
MUCH, STEEPER = ("10 layers", "35%"), 5e-4
"""Where so much goes, the weights have further to go."""
OF_A_PART = " of a fifth, all text"
LONGER_NAME = ", ten minutes more"
"""Of the fits of blocks, in place of another training after them."""
LEAST = 1.0
"""Seconds of a stage that looked at text."""
RESPACED = " and respaced"
"""With as many samples again of the same text, respaced; without the ten minutes, half of the samples are that."""
WRITTEN = " and written text"
"""With a third as much text that the original model writes itself, after drawn tokens."""
REPAIRED = ("block-influence", "flap")
"""Followed by a repair of all layers as well."""
WIDTH = ("llm-pruner", "wanda", "flap", "activation", "magnitude", "random")
BOTH: dict[str, Settings] = {
    "SWM + llm-pruner": DEPTH["SWM, fixed, each token"],
    "block-influence + llm-pruner": DEPTH["block-influence"],
}


def cases() -> dict[str, dict[str, Any]]:
    """Parts of recipes by the name of the row."""
    found: dict[str, dict[str, Any]] = {}
    for count in LAYERS:
        for name, settings in DEPTH.items():
            depth = {"depth": {"search_samples": 16, **settings, "target": {"layers": count}}}
            found[f"{name} | {count} layers"] = {"stages": [depth]}
            if name in REPAIRED:
                found[f"{name}, then repair | {count} layers"] = {"stages": [depth, REPAIR]}
            if name in MORE_TEXT:
                found[f"{name}, more text | {count} layers"] = {"stages": [depth], "text": 4}
                found[f"{name}, more text in-domain | {count} layers"] = {"stages": [depth], "text": 4, "near": True}
    longest = {**DEPTH["block-influence, distilled"], "merger": {"name": "distilled", "epochs": 10}}
    stages = [{"depth": {"search_samples": 16, **longest, "target": {"layers": 6}}}]
    found[f"{LONGER} | 6 layers"] = {"stages": stages, "text": 4}
    found[f"{LONGER} in-domain | 6 layers"] = {"stages": stages, "text": 4, "near": True}
    joint = "least-squares, attention too"
    for name, count, samples, seconds in (("contiguous", 6, 16, 440), ("greedy-loss", 10, 4, 290)):
        settings = {"pruner": name, "merger": JOINT, "search_samples": samples, "target": {"layers": count}}
        if name == "greedy-loss":
            settings["search_merger"] = "delete"
        add_fitted(found, f"{name}, {joint}, then distil-blocks | {count} layers", [{"depth": settings}], seconds)
    for name, count, samples, seconds in (("contiguous", 6, 16, 490), ("greedy-loss", 10, 2, 360)):
        settings = {"pruner": name, "merger": JOINT, "search_merger": "delete", "target": {"layers": count}}
        stages = [{"depth": {**settings, "search_samples": samples}}]
        add_fitted(found, f"{name}, {joint}, then distil-blocks{LONG_NAME} | {count} layers", stages, seconds)
    for name, count, samples, seconds in (("contiguous", 6, 16, 525), ("greedy-loss", 10, 4, 325)):
        settings = {"pruner": name, "merger": JOINT, "search_merger": "delete", "target": {"layers": count}}
        # The closed form looks at a fifth of the text that the blocks look at.
        stages = [{"depth": {**settings, "search_samples": samples, "samples": 56}}]
        key = f"{name}, {joint}{OF_A_PART}, then distil-blocks{LONG_NAME} | {count} layers"
        add_fitted(found, key, stages, seconds, {"text": 6})
    for name, count, samples, seconds in (("contiguous", 6, 16, 540), ("greedy-loss", 10, 4, 440)):
        deleted = {"depth": {"pruner": name, "search_samples": samples, "target": {"layers": count}}}
        add_fitted(found, f"{name}, then distil-blocks | {count} layers", [deleted], seconds)
        key = f"{name}, all text, then distil-blocks{LONG_NAME} | {count} layers"
        add_fitted(found, key, [deleted], seconds + 40, {"text": 6})
    add_healed(found)
    add_blocks(found)
    contiguous = {"pruner": "contiguous", "merger": JOINT, "search_samples": 16}
    for ratio in RATIOS:
        narrow = {"pruner": "wanda", "compensate": "least-squares"}
        stages = [{"width": {**narrow, "target": {"ratio": ratio}}}]
        add_fitted(found, f"wanda, least-squares, then distil-blocks | {ratio:.0%}", stages, 400)
        key = f"contiguous + wanda, least-squares, then distil-blocks | {ratio:.0%}"
        spread = {"budget": {"ratio": ratio, "depth_share": 0.4}}
        add_fitted(found, key, [{"depth": contiguous}, {"width": narrow}], 340, spread)
        quick = {**contiguous, "search_merger": "delete"}
        what, size = key.split(" | ")
        add_fitted(found, f"{what}{LONG_NAME} | {size}", [{"depth": quick}, {"width": narrow}], 350, spread)
        some = {**quick, "search_samples": 56 if ratio == max(RATIOS) else 16, "samples": 56}
        part: list[Settings] = [{"depth": some}, {"width": {**narrow, "samples": 56}}]
        key = f"contiguous + wanda, least-squares{OF_A_PART}, then distil-blocks{LONG_NAME} | {ratio:.0%}"
        add_fitted(found, key, part, 430, {**spread, "text": 6})
        plain = [{"depth": {"pruner": "contiguous", "search_samples": 16}}, {"width": {"pruner": "wanda"}}]
        add_fitted(found, f"contiguous + wanda, then distil-blocks | {ratio:.0%}", plain, 500, spread)
        for name in WIDTH:
            width = {"width": {"pruner": name, "target": {"ratio": ratio}}}
            found[f"{name} | {ratio:.0%}"] = {"stages": [width]}
            if name in REPAIRED:
                found[f"{name}, then repair | {ratio:.0%}"] = {"stages": [width, REPAIR]}
            if name != "flap":
                refitted = {"width": {**width["width"], "compensate": "least-squares"}}
                found[f"{name}, least-squares | {ratio:.0%}"] = {"stages": [refitted]}
        spend = {"allocate": {"pruner": "wanda", "merger": "least-squares", "search_samples": 16}}
        shared = {"budget": {"ratio": ratio}, "layout": "custom"}
        found[f"allocate | {ratio:.0%}"] = {"stages": [spend], **shared}
        found[f"allocate, then repair | {ratio:.0%}"] = {"stages": [spend, REPAIR], **shared}
        tried = {"allocate": {**spend["allocate"], "repair": "repair"}}
        found[f"allocate among repaired ones, then repair | {ratio:.0%}"] = {"stages": [tried, REPAIR], **shared}
        finer = {"allocate": {**spend["allocate"], "blocks": True}}
        found[f"allocate, sub-blocks too | {ratio:.0%}"] = {"stages": [finer], **shared}
        for name, settings in BOTH.items():
            stages = [{"depth": {"search_samples": 16, **settings}}, {"width": {"pruner": "llm-pruner"}}]
            budget = {"ratio": ratio, "depth_share": 0.5}
            found[f"{name} | {ratio:.0%}"] = {"stages": stages, "budget": budget}
            found[f"{name}, then repair | {ratio:.0%}"] = {"stages": [*stages, REPAIR], "budget": budget}
    for name in BEST:
        what, size = name.split(" | ")
        for training, settings in {**TRAININGS, **(OTHER_TRAININGS if name == BEST[0] else {})}.items():
            recipe = found[name]
            stages = [*recipe["stages"], {"recover": {**settings, "batch": 8, "micro_batch": 8}}]
            found[f"{what}, then {training} | {size}"] = {**recipe, "stages": stages, "trains": True}
    return found


def add_healed(found: dict[str, dict[str, Any]]) -> None:
    """Add rows that remove two layers, heal, remove two, and so on."""
    blocks = {**BLOCKS, "layers": "all", "batch": 2, "learning_rate": GENTLE[0], "seconds": 540.0}
    ways: tuple[tuple[str, Settings, Settings], ...] = (
        ("block-influence", REPAIR, {}),
        ("contiguous", {"distil-blocks": blocks}, {"text": 6, "seq_len": 512}),
    )
    for pruner, healer, text in ways:
        heal = {"every": 2, "stages": [healer]}
        depth = {"depth": {"pruner": pruner, "search_samples": 16, "target": {"layers": 6}, "heal": heal}}
        found[f"{pruner}, every two layers healed by {next(iter(healer))} | 6 layers"] = {"stages": [depth], **text}


def add_blocks(found: dict[str, dict[str, Any]]) -> None:
    """Add rows in which attentions and MLPs go alone."""
    shared = {"layout": "custom"}
    for pruner in ("block-influence", "single-loss", "greedy-loss"):
        for unit, what in (("any", "sub-blocks"), ("mlp", "MLPs")):
            depth = {"depth": {"pruner": pruner, "unit": unit, "search_samples": 4, "target": {"ratio": 0.2}}}
            found[f"{pruner}, {what} | 20%"] = {"stages": [depth], **shared}
            if unit == "any":
                found[f"{pruner}, {what}, then repair | 20%"] = {"stages": [depth, REPAIR], **shared}
                key = f"{pruner}, {what}, all text, then distil-blocks{LONG_NAME} | 20%"
                add_fitted(found, key, [depth], 480, {**shared, "text": 6})


def add_fitted(
    found: dict[str, dict[str, Any]],
    key: str,
    stages: list[Settings],
    seconds: float,
    others: Settings | None = None,
) -> None:
    """Add the row with fits of whole blocks behind these stages, and the one with ten minutes of training after it.

    Args:
        found: The rows.
        key: The name of the first of the two.
        stages: What comes before.
        seconds: The time of the fits of blocks.
        others: Other entries of the row.
    """
    shared: Settings = {"text": 3, **(others or {})}
    name, size = key.split(" | ")
    blocks, tuned = {**BLOCKS, "seconds": float(seconds)}, TUNED
    if name.endswith(LONG_NAME):
        shared["seq_len"] = 512
        blocks |= {"layers": "all", "batch": 2, "learning_rate": GENTLE[0]}
        tuned = {**TUNED, "batch": 2, "micro_batch": 2, "cutoff": 512, "learning_rate": GENTLE[1]}
    if OF_A_PART in name and size in MUCH:
        blocks["learning_rate"] = STEEPER
    fitted = [*stages, {"distil-blocks": blocks}]
    found[key] = {"stages": fitted, **shared}
    if OF_A_PART in name:
        longer = [*stages, {"distil-blocks": {**blocks, "seconds": seconds + 600.0}}]
        found[f"{name}{LONGER_NAME} | {size}"] = {"stages": longer, **shared}
        other = name.replace(OF_A_PART, f"{OF_A_PART}{RESPACED}")
        found[f"{other} | {size}"] = {"stages": fitted, **shared, "respaced": True}
        twice = {**shared, "text": 2 * shared["text"], "respaced": True}
        found[f"{other}{LONGER_NAME} | {size}"] = {"stages": longer, **twice}
        if size == "6 layers":
            other = name.replace(OF_A_PART, f"{OF_A_PART}{WRITTEN}")
            more = {**shared, "text": 8, "written": True}
            found[f"{other} | {size}"] = {"stages": fitted, **more}
            found[f"{other}{LONGER_NAME} | {size}"] = {"stages": longer, **more}
    trained = [*fitted, {"recover": tuned}]
    found[f"{name}{TUNED_NAME} | {size}"] = {"stages": trained, "trains": True, **shared}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--text", required=True, help="the WikiText-2 test file, or any text")
    parser.add_argument("--calibration", required=True, help="a text source or file")
    parser.add_argument("--samples", type=int, default=96, help="calibration samples of 256 tokens")
    parser.add_argument("--limit", type=int, default=100, help="items of each task")
    parser.add_argument("--max-tokens", type=int, default=64 * 512)
    parser.add_argument("--seconds", type=float, default=600, help="the time of each training")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rows"))
    parser.add_argument("--only", nargs="+", default=["*"], help="rows of these names, which may have * in them")
    parser.add_argument("--again", action="store_true", help="also those of --only that are there already")
    parser.add_argument("--known-only", action="store_true", help="write the tables from the rows that are there")
    parser.add_argument("--matmul", choices=("highest", "high", "medium"), default="medium", help="torch's precision")
    options = parser.parse_args()
    # Where the processor has units for bfloat16, a row takes half the time, and perplexity moves by less than 0.1 %.
    torch.set_float32_matmul_precision(options.matmul)
    bench = Bench(options)
    dense = bench.row("dense", {"stages": [{"depth": {"pruner": "last", "target": {"layers": 1}}}]})
    sections = [bench.protocol()]
    found = {name: bench.row(name, recipe) for name, recipe in cases().items()}
    values: dict[str, dict[str, tuple[float, str]]] = {}
    for size in (*(f"{count} layers" for count in LAYERS), *(f"{ratio:.0%}" for ratio in RATIOS)):
        values[size] = {
            name.split(" | ")[0]: (row["perplexity"]["value"] / dense["perplexity"]["value"], kind(name))
            for name, row in found.items()
            if name.endswith(size) and "perplexity" in row
        }
        rows = [["dense", *cells(dense, dense, {})]]
        here = {name: row for name, row in found.items() if name.endswith(size)}
        rows += [[name.split(" | ")[0], *cells(row, dense, here)] for name, row in here.items() if "missing" not in row]
        columns = [size, "parameters that went", "perplexity", "times dense", "average of seven tasks, %"]
        columns += ["seconds", "peak memory, GiB"]
        sections.append(markdown_table(columns, rows))
        absent = [name.split(" | ")[0] for name, row in here.items() if "missing" in row]
        sections += [f"Not measured yet: {'; '.join(absent)}."] if absent else []
    if any(values.values()):
        draw(values, IMAGES / "quality.png")
    sections.append("![Perplexity by way of compressing](../docs/images/quality.png)")
    write_section("quality", "\n\n".join(sections))


def second_half(path: str) -> Path:
    """A file of it, which no scored window reaches."""
    whole = Path(path).read_text(encoding="utf-8")
    half = Path(tempfile.gettempdir(), f"{Path(path).stem}-second-half.txt")
    half.write_text(whole[len(whole) // 2 :], encoding="utf-8")
    return half


def kind(name: str) -> str:
    """What was done to the weights that stay: the figure's colours."""
    if any(part in name for part in ("then LoRA", "distillation", "distilled", "distil-blocks")):
        return "trained"
    if any(part in name for part in ("repair", "linear", "least-squares", "best-neurons", "allocate")):
        return "repaired"
    return "merged" if any(part in name for part in ("SWM", "laco", "average", "ema")) else "removed"


def cells(row: dict[str, Any], dense: dict[str, Any], others: dict[str, dict[str, Any]]) -> list[str]:
    """What a table shows of a row.

    Args:
        row: The row.
        dense: That of the original model.
        others: The rows of the same size by key; a training begins with what one of them has made.
    """
    if "refused" in row:
        return ["", "refused", "", "", "", ""]
    value, mean = row["perplexity"]["value"], row["tasks"]["average"]
    times = value / dense["perplexity"]["value"]
    spent = whole_seconds(row, others)
    # A stage that took less came from the cache, and of which row's run is not known.
    known = row is not dense and all(value >= LEAST for part, value in spent.items() if part.startswith("stage"))
    peak = max(row.get("peak_mib", 0), begun_by(row, others).get("peak_mib", 0)) / 1024
    return [
        f"{1 - row['parameters'] / dense['parameters']:.1%}",
        f"{value:.1f}" if value < 10_000 else f"{value:.0e}",
        f"{times:.2f}" if times < 100 else f"{times:.0e}",
        f"{100 * mean['value']:.1f} ± {100 * mean['standard_error']:.1f}",
        f"{sum(spent.values()):.0f}" if known else "",
        f"{peak:.1f}" if row is not dense and "peak_mib" in row else "",
    ]


class Bench:
    """Runs a recipe for each row and measures what it leaves."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.plugins = load_plugins()
        self.rows = Rows(options.out / "quality.jsonl")

    def row(self, key: str, recipe: dict[str, Any]) -> dict[str, Any]:
        wanted = key == "dense" or any(fnmatchcase(key, pattern) for pattern in self.options.only)
        self.rows.known_only = self.options.known_only or not wanted
        again = self.options.again and key != "dense" and wanted
        which = "dense" if key == "dense" else "compressed"
        return self.rows.measure(key, lambda: self._measure(recipe, which), again)

    def _measure(self, recipe: dict[str, Any], which: str) -> dict[str, Any]:
        options, recipe = self.options, copy.deepcopy(recipe)
        seq_len = recipe.pop("seq_len", 256)
        samples = options.samples * recipe.pop("text", 1) * 256 // seq_len
        calibration: Any = str(second_half(options.text)) if recipe.pop("near", False) else options.calibration
        if recipe.pop("respaced", False):
            respaced = {"name": "respaced", "text": calibration}
            calibration = {"mix": [{"text": calibration, "share": 0.5}, {"text": respaced, "share": 0.5}]}
        if recipe.pop("written", False):
            written = {"name": "generated", "begin": "drawn", "count": 144, "tokens": 512}
            calibration = {"mix": [{"text": calibration, "share": 0.75}, {"text": written, "share": 0.25}]}
        if recipe.pop("trains", False):
            data = {"name": "file", "path": options.calibration}
            for stage in recipe["stages"]:
                if "recover" in stage:
                    stage["recover"] |= {"data": data, "seconds": options.seconds, "steps": 10_000}
        text = {"text": options.text, "seq_len": 512, "bos": "none", "max_tokens": options.max_tokens}
        base = {
            "model": options.model,
            "dtype": "float32",
            "device": "cpu",
            "calibration": {"text": calibration, "samples": samples, "seq_len": seq_len},
            "evaluate": {"perplexity": text, "tasks": ["seven"], "limit": options.limit},
        }
        # Rows that differ in what follows share a search; its time is that of the first of them.
        forget_peak()
        built = build_recipe({**base, **recipe}, self.plugins)
        pipeline = CompressionPipeline(built, self.plugins, observations=shared_observations())
        try:
            ready = pipeline.prepare()
            view = pipeline.load(ready)
            stages: Sequence[PlannedStage] = (
                [] if which == "dense" else pipeline.decide(ready, view, apply_last=True).stages
            )
        except SwmError as error:
            return {"refused": str(error)}
        peak = peak_memory()
        found = dict(ready.evaluator.measure(view.model, which))
        return {
            "peak_mib": round(peak),
            "parameters": view.parameters(),
            "plan": [step.describe() for stage in stages for step in stage.steps][:40],
            "trained_steps": max((stage.facts.get("steps", 0) for stage in stages), default=0),
            "seconds": {name: round(value, 1) for name, value in pipeline.seconds.items()},
            "perplexity": found["perplexity"],
            "tasks": found["tasks"],
        }

    def protocol(self) -> str:
        options = self.options
        text, calibration = Path(options.text).name, Path(options.calibration).name
        return (
            "## Quality: every way to compress, with and without repair\n\n"
            f"Model `{options.model}`, float32 (precision of matrix products: {options.matmul}). Calibration: "
            f"{options.samples} samples of 256 tokens of `{calibration}`, seed 0; searches of depth pruners look at 16 "
            f"of them; `more text` is four times the samples, `in-domain` takes them from the second half of `{text}`. "
            "No training but in the rows that tell of one, and of each merged layer by itself in those of `distilled`: "
            f"{options.seconds:g} s on all of the same file, batches of 8 pieces of at most 256 tokens, LoRA of rank 8 "
            "with a learning rate of 2e-4, distillation of all weights with 5e-5; `tuned distillation` takes steps of "
            "1,024 tokens with 3e-4 and a rise of 20 steps, in bfloat16. Rows with `distil-blocks` have 290 to 580 s "
            "of it, so that all fits take about ten minutes, and three times the samples. Those of a closed form and "
            "`distil-blocks` were measured before a step of a training took about half the time, but for those of "
            "`long pieces`: their samples and pieces have 512 tokens, `distil-blocks` trains all layers and not only "
            "those above the first change, with a learning rate of 3e-4 in place of 5e-4, and distillation has 2e-4. "
            "`all text` is six times the samples; with `of a fifth` the closed forms look at 56 of those 288, and "
            "`distil-blocks` has 3e-4, at ten layers and 35 % 5e-4. `ten minutes more` are 600 s more of it. With `and "
            "respaced` half of the samples are of the same text `respaced`; in ten minutes more, these come on top, so "
            "that there are 576. None of it is text of the evaluated kind, but in some of it marks stand apart as they "
            "do there. With `and written text` there is a third as much again that the model itself writes after drawn "
            "tokens, which is in the seconds too. Rows of several stages before these ran the original model once more "
            "over the text, which is not in their seconds; it is not done any more. "
            f"Perplexity on `{text}` (BOS: none, windows of 512, the first {options.max_tokens} tokens); the seven "
            f"tasks with the first {options.limit} items of each, 0-shot, lm-eval's prompts and metrics, unweighted "
            "mean with its standard error.\n"
            f"{self.rows.machines()}\n\n"
            f"Command: `python benchmarks/quality.py --text {text} --calibration {calibration}`"
        )


if __name__ == "__main__":
    main()
