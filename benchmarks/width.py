"""Perplexity of every width pruner, of depth and width shares of one budget, and the memory that Taylor scores take.

    python benchmarks/width.py --text wiki.test.raw

Rows are kept in benchmarks/rows/ and a run that was stopped goes on where it was; RESULTS.md gets the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from results import Rows, markdown_table, peak_memory, write_section

from swm.errors import SwmError
from swm.measure.perplexity import PerplexityProtocol, cut_windows, perplexity
from swm.model.shape import shape_now
from swm.plugins.loading import load_plugins
from swm.recipe.building import build_recipe
from swm.run.pipeline import CompressionPipeline

PRUNERS: dict[str, Any] = {
    "llm-pruner (first)": "llm-pruner",
    "llm-pruner (vector)": {"name": "llm-pruner", "element": "vector"},
    "wanda": "wanda",
    "flap": "flap",
    "activation": "activation",
    "magnitude (l2)": "magnitude",
    "random": "random",
}
DEPTHS: dict[str, dict[str, Any]] = {
    "sliding-window + llm-pruner": {"pruner": "sliding-window", "similarity": {"name": "cosine", "tokens": "each"}},
    "block-influence + llm-pruner": {"pruner": "block-influence"},
}
MEMORY = ("weights", "peak when loaded", "peak after scoring")
RATIOS, TOTALS, SHARES = (0.1, 0.2, 0.35), (0.2, 0.35), (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--text", required=True, help="the WikiText-2 test file, or any text")
    parser.add_argument("--max-tokens", type=int, default=16 * 512)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rows"))
    parser.add_argument("--known-only", action="store_true", help="write the tables from the rows that are there")
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    bench = Bench(options)
    if options.memory:
        sys.stdout.write(json.dumps(bench.memory()) + "\n")
        return
    dense = bench.row("dense", None)
    rows = [["dense", *[f"{dense['perplexity']:.1f}"] * len(RATIOS)]]
    for name, pruner in PRUNERS.items():
        found = [
            bench.row(f"{name} {r}", {"stages": [{"width": {"pruner": pruner, "target": {"ratio": r}}}]})
            for r in RATIOS
        ]
        rows.append([name, *map(cell, found)])
    sections = [bench.protocol(dense), markdown_table(["pruner", *(f"{r:.0%} of parameters" for r in RATIOS)], rows)]
    rows = []
    for name, depth in DEPTHS.items():
        for total in TOTALS:
            found = [bench.row(f"{name} {total} {share}", shared(depth, total, share)) for share in SHARES]
            rows.append([f"{name}, {total:.0%}", *map(cell, found)])
    sections.append(markdown_table(["depth + width, total", *(f"depth share {share:g}" for share in SHARES)], rows))
    memory = bench.rows.measure("memory", run_memory)
    rows = [[name, f"{memory[name]:,.0f}"] for name in MEMORY if name in memory]
    sections.append(markdown_table(["memory of one Taylor scoring, 10 x 64 tokens", "MiB"], rows))
    write_section("width", "\n\n".join(sections))


def shared(depth: dict[str, Any], total: float, share: float) -> dict[str, Any]:
    stages = [{"depth": depth}, {"width": {"pruner": "llm-pruner"}}]
    return {"stages": stages, "budget": {"ratio": total, "depth_share": share}}


def cell(row: dict[str, Any]) -> str:
    if "refused" in row:
        return "refused"
    if "missing" in row:
        return "not measured"
    value = row["perplexity"]
    return f"{value:.1f} ({row['ratio']:.1%})" if value < 1000 else f"{value:.0e} ({row['ratio']:.1%})"


def run_memory() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--memory"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


class Bench:
    """Loads the model afresh for each row, plans, applies, measures."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.plugins = load_plugins()
        self.rows = Rows(options.out / "width.jsonl", options.known_only)
        self.windows: Any = None

    def pipeline(self, recipe: dict[str, Any]) -> CompressionPipeline:
        base = {
            "model": self.options.model,
            "dtype": "float32",
            "device": "cpu",
            "calibration": {"text": "python-docs", "samples": 10, "seq_len": 64},
        }
        return CompressionPipeline(build_recipe({**base, **recipe}, self.plugins), self.plugins)

    def row(self, key: str, recipe: dict[str, Any] | None) -> dict[str, Any]:
        return self.rows.measure(key, lambda: self._measure(recipe))

    def _measure(self, recipe: dict[str, Any] | None) -> dict[str, Any]:
        nothing = {"stages": [{"depth": {"pruner": "last", "target": {"layers": 1}}}]}
        pipeline = self.pipeline(recipe or nothing)
        try:
            ready = pipeline.prepare()
            view = pipeline.load(ready)
            if recipe is not None:
                pipeline.decide(ready, view, apply_last=True)
        except SwmError as error:
            return {"refused": str(error)}
        text = self.plugins.registry.build("text", self.options.text)
        windows = cut_windows(ready.tokenizer, PerplexityProtocol(text, 512, "none", self.options.max_tokens))
        found = perplexity(view.model, windows)
        ratio = 1 - shape_now(view).parameters / ready.shape.parameters
        return {
            "perplexity": found["value"],
            "error": found["standard_error"],
            "ratio": ratio,
            "scored": windows.record["scored_tokens"],
        }

    def memory(self) -> dict[str, Any]:
        """Peak memory of this process: after loading, and after the Taylor scores of every layer."""
        pipeline = self.pipeline({"stages": [{"width": {"pruner": "llm-pruner", "target": {"ratio": 0.2}}}]})
        ready = pipeline.prepare()
        view = pipeline.load(ready)
        weights = sum(p.numel() * p.element_size() for p in view.model.parameters()) / 2**20
        loaded = peak_memory()
        pipeline.decide(ready, view, apply_last=False)
        peak = peak_memory()
        return dict(zip(MEMORY, (weights, loaded, peak), strict=True))

    def protocol(self, dense: dict[str, Any]) -> str:
        name = Path(self.options.text).name
        return (
            "## Width, and depth with width\n\n"
            f"Model `{self.options.model}`, float32. Perplexity on `{name}` (BOS: none, windows of 512 tokens, "
            f"{dense['scored']} tokens scored, standard error over windows ± {dense['error']:.1f} for the dense "
            "model). Calibration: 10 samples of 64 tokens of python-docs, seed 0; no recovery. Uniform widths, MLP "
            "channels in multiples of 32. In brackets: the share of all parameters that went.\n"
            f"{self.rows.machines()}\n\n"
            f"Command: `python benchmarks/width.py --text {name}`"
        )


if __name__ == "__main__":
    main()
