"""Perplexity of every depth pruner, and of every merger, at several depths.

    python benchmarks/depth_quality.py --text wiki.test.raw

Rows are kept in benchmarks/rows/ and a run that was stopped goes on where it was; RESULTS.md gets the tables.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from results import Rows, markdown_table, write_section

from swm.errors import SwmError
from swm.interfaces.progress import Silent
from swm.interfaces.stage import StageContext
from swm.loading import models
from swm.measure.perplexity import PerplexityProtocol, cut_windows, perplexity
from swm.model.families import find_family
from swm.model.shape import shape_now
from swm.model.view import ModelView
from swm.plugins.loading import load_plugins
from swm.text.calibration import draw_samples

EACH = {"name": "cosine", "tokens": "each"}
RELEASED = {"name": "sliding-window", "quirks": "released"}
PRUNERS: dict[str, dict[str, Any]] = {
    "sliding-window, released (flattened cosine)": {"pruner": RELEASED},
    "sliding-window (flattened cosine)": {"pruner": "sliding-window"},
    "sliding-window (cosine of each token)": {"pruner": "sliding-window", "similarity": EACH},
    "sliding-window (kl)": {"pruner": "sliding-window", "similarity": "kl"},
    "laco": {"pruner": "laco"},
    "block-influence": {"pruner": "block-influence"},
    "contiguous": {"pruner": "contiguous"},
    "greedy-loss": {"pruner": "greedy-loss"},
    "single-loss": {"pruner": "single-loss"},
    "last": {"pruner": "last"},
    "random (seed 0)": {"pruner": {"name": "random", "seed": 0}},
    "random (seed 1)": {"pruner": {"name": "random", "seed": 1}},
    "random (seed 2)": {"pruner": {"name": "random", "seed": 2}},
}
MERGERS: dict[str, dict[str, Any]] = {
    "consolidate, telescoped (released)": {"name": "consolidate"},
    "consolidate, telescoped, norms: top": {"name": "consolidate", "norms": "top"},
    "consolidate, literal (the paper's equation)": {"name": "consolidate", "formula": "literal"},
    "delete, keep: bottom": {"name": "delete", "keep": "bottom"},
    "delete, keep: top": {"name": "delete", "keep": "top"},
    "average": {"name": "average"},
    "sum (the released average)": {"name": "sum"},
    "ema, factor: 0.5": {"name": "ema"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--text", required=True, help="the WikiText-2 test file, or any text")
    parser.add_argument("--layers", type=int, nargs="+", default=[6, 10])
    parser.add_argument("--max-tokens", type=int, default=16 * 512)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rows"))
    parser.add_argument("--known-only", action="store_true", help="write the tables from the rows that are there")
    bench = Bench(parser.parse_args())
    dense = bench.row("dense", None)
    sections = [bench.protocol(dense)]
    rows = [["dense", *[f"{dense['perplexity']:.1f} ± {dense['error']:.1f}"] * len(bench.options.layers)]]
    for name, stage in PRUNERS.items():
        rows.append(
            [name, *(cell(bench.row(f"{name} -{n}", {**stage, "target": {"layers": n}})) for n in bench.depths)]
        )
    columns = ["pruner (with its own merger)", *(f"{n} layers removed" for n in bench.depths)]
    sections.append(markdown_table(columns, rows))
    rows = []
    for name, merger in MERGERS.items():
        stage = {"pruner": "block-influence", "merger": merger}
        rows.append(
            [name, *(cell(bench.row(f"{name} -{n}", {**stage, "target": {"layers": n}})) for n in bench.depths)]
        )
    columns = ["merger, in the windows of block-influence", *(f"{n} layers removed" for n in bench.depths)]
    sections.append(markdown_table(columns, rows))
    write_section("depth-quality", "\n\n".join(sections))


def cell(row: dict[str, Any]) -> str:
    if "refused" in row:
        return "refused"
    if "missing" in row:
        return "not measured"
    value = row["perplexity"]
    shown = f"{value:.1f}" if value < 1000 else f"{value:.0e}"
    return f"{shown} ({row['removed']})" if row["removed"] else shown


class Bench:
    """Loads the model afresh for each row, plans, applies, measures."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.depths: list[int] = options.layers
        self.registry = load_plugins().registry
        self.rows = Rows(options.out / "depth_quality.jsonl", options.known_only)
        self.source = models.locate(options.model, self.registry, Silent())
        tokenizer = models.load_tokenizer(self.source)
        text = self.registry.build("text", options.text)
        self.windows = cut_windows(tokenizer, PerplexityProtocol(text, 512, "none", options.max_tokens))
        self.calibration = draw_samples(
            tokenizer, self.registry.build("text", "python-docs"), samples=10, seq_len=128, seed=0
        )

    def row(self, key: str, stage: dict[str, Any] | None) -> dict[str, Any]:
        return self.rows.measure(key, lambda: self._measure(stage))

    def _measure(self, parameters: dict[str, Any] | None) -> dict[str, Any]:
        model = models.load_model(self.source, dtype="float32", device="cpu")
        view = ModelView(model, find_family(model.config, self.registry.families))
        row: dict[str, Any] = {"removed": ""}
        if parameters is not None:
            stage = self.registry.build_named("stage", "depth", parameters)
            context = StageContext(view, self.calibration, shape_now(view), 0, Silent())
            try:
                plan = stage.plan(context)
            except SwmError as error:
                return {"refused": str(error)}
            for step in plan.steps:
                step.apply(view, {})
            row["removed"] = " ".join(step.layers for step in plan.steps)
            row["facts"] = {k: v for k, v in plan.facts.items() if k in ("threshold", "similarity", "layer_forwards")}
        found = perplexity(model, self.windows)
        return {**row, "perplexity": found["value"], "error": found.get("standard_error", 0.0)}

    def protocol(self, dense: dict[str, Any]) -> str:
        record = self.windows.record
        name = Path(self.options.text).name
        return (
            "## Depth: every pruner and every merger\n\n"
            f"Model `{self.options.model}`, float32. Perplexity on `{name}` (BOS: none, {record['windows']} windows of "
            f"{record['seq_len']} tokens, {record['scored_tokens']} tokens scored, standard error over windows "
            f"± {dense['error']:.1f} for the dense model). Calibration: 10 samples of 128 tokens of python-docs, "
            "seed 0; no recovery. In brackets: the windows that became one layer each.\n"
            f"{self.rows.machines()}\n\n"
            f"Command: `python benchmarks/depth_quality.py --text {name}`"
        )


if __name__ == "__main__":
    main()
