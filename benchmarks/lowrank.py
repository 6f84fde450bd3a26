"""Perplexity of low-rank factorisations at two ratios, and of merged layers that are factorised then.

    pip install ./plugins/swm-dipsvd
    python benchmarks/lowrank.py --text wiki.test.raw --calibration c4.jsonl.gz

Rows are kept in benchmarks/rows/ and a run that was stopped goes on where it was; RESULTS.md gets the table.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from results import Rows, markdown_table, write_section

from swm.errors import SwmError
from swm.measure.perplexity import PerplexityProtocol, cut_windows, perplexity
from swm.plugins.loading import load_plugins
from swm.recipe.building import build_recipe
from swm.run.pipeline import CompressionPipeline

RATIOS = (0.2, 0.4)
COLUMN, SYMMETRIC = ({"name": "channel-weighted", "mode": mode} for mode in ("column", "symmetric"))
METHODS: dict[str, dict[str, Any]] = {
    "plain SVD": {"whitening": "none"},
    "FWSVD": {"whitening": "fisher"},
    "ASVD (alpha 0.5, uniform)": {"whitening": "absmean"},
    "SVD-LLM": {"whitening": "cholesky"},
    "DipSVD, column, uniform": {"whitening": COLUMN},
    "DipSVD, symmetric, uniform": {"whitening": SYMMETRIC},
    "DipSVD, column, dip-heuristic": {"whitening": COLUMN, "allocation": "dip-heuristic"},
    "DipSVD, symmetric, dip-heuristic": {"whitening": SYMMETRIC, "allocation": "dip-heuristic"},
    "DipSVD, column, bayes": {"whitening": COLUMN, "allocation": "bayes"},
    "DipSVD, symmetric, bayes": {"whitening": SYMMETRIC, "allocation": "bayes"},
}
EACH = {"name": "cosine", "tokens": "each"}
MERGED = {"pruner": "sliding-window", "similarity": EACH, "target": {"layers": 1}, "search_samples": 8}
COMBINED = "SWM (1 layer), then DipSVD (column, uniform)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--text", required=True, help="the WikiText-2 test file, or any text")
    parser.add_argument("--calibration", default="python-docs", help="a text source or file")
    parser.add_argument("--samples", type=int, default=64, help="calibration samples of 256 tokens")
    parser.add_argument("--trials", type=int, default=20, help="of the search, each on 8 samples")
    parser.add_argument("--max-tokens", type=int, default=16 * 512)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rows"))
    parser.add_argument("--known-only", action="store_true", help="write the table from the rows that are there")
    bench = Bench(parser.parse_args())
    dense = bench.row("dense", [])
    rows = [["dense", *[f"{dense['perplexity']:.1f}"] * len(RATIOS)]]
    for name, settings in METHODS.items():
        found = [bench.row(f"{name} {ratio}", [bench.lowrank(settings, ratio)]) for ratio in RATIOS]
        rows.append([name, *map(cell, found)])
    found = [
        bench.row(f"{COMBINED} {ratio}", [{"depth": MERGED}, bench.lowrank({"whitening": COLUMN}, ratio)])
        for ratio in RATIOS
    ]
    rows.append([COMBINED, *map(cell, found)])
    columns = ["method", *(f"{ratio:.0%} of the projections" for ratio in RATIOS)]
    write_section("lowrank", f"{bench.protocol(dense)}\n\n{markdown_table(columns, rows)}")


def cell(row: dict[str, Any]) -> str:
    if "missing" in row:
        return "not measured"
    if "refused" in row:
        return "refused"
    value = row["perplexity"]
    return f"{value:.1f} ({row['ratio']:.1%})" if value < 10_000 else f"{value:.0e} ({row['ratio']:.1%})"


class Bench:
    """Loads the model afresh for each row, factorises, measures."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.plugins = load_plugins()
        self.rows = Rows(options.out / "lowrank.jsonl", options.known_only)

    def lowrank(self, settings: dict[str, Any], ratio: float) -> dict[str, Any]:
        found = {**settings, "block_ratio": ratio}
        if settings.get("allocation") == "bayes":
            found["allocation"] = {"name": "bayes", "trials": self.options.trials, "samples": 8}
        return {"lowrank": found}

    def row(self, key: str, stages: list[dict[str, Any]]) -> dict[str, Any]:
        return self.rows.measure(key, lambda: self._measure(stages))

    def _measure(self, stages: list[dict[str, Any]]) -> dict[str, Any]:
        nothing = [{"depth": {"pruner": "last", "target": {"layers": 1}}}]
        recipe = {
            "model": self.options.model,
            "dtype": "float32",
            "device": "cpu",
            "calibration": {"text": self.options.calibration, "samples": self.options.samples, "seq_len": 256},
            "stages": stages or nothing,
        }
        pipeline = CompressionPipeline(build_recipe(recipe, self.plugins), self.plugins)
        try:
            ready = pipeline.prepare()
            view = pipeline.load(ready)
            made = pipeline.decide(ready, view, apply_last=True).stages if stages else []
        except SwmError as error:
            return {"refused": str(error)}
        text = self.plugins.registry.build("text", self.options.text)
        windows = cut_windows(ready.tokenizer, PerplexityProtocol(text, 512, "none", self.options.max_tokens))
        found = perplexity(view.model, windows)
        return {
            "perplexity": found["value"],
            "error": found["standard_error"],
            "ratio": 1 - view.parameters() / ready.shape.parameters,
            "scored": windows.record["scored_tokens"],
            "facts": [{k: v for k, v in stage.facts.items() if k != "achieved"} for stage in made],
            "seconds": {name: round(value, 1) for name, value in pipeline.seconds.items()},
        }

    def protocol(self, dense: dict[str, Any]) -> str:
        options = self.options
        name, calibration = Path(options.text).name, Path(options.calibration).name
        return (
            "## Low rank\n\n"
            f"Model `{options.model}`, float32. Perplexity on `{name}` (BOS: none, windows of 512 tokens, "
            f"{dense['scored']} tokens scored, standard error over windows ± {dense['error']:.1f} for the dense model"
            f"). Calibration: {options.samples} samples of 256 tokens of `{calibration}`, seed 0; no "
            f"training. `bayes`: "
            f"{options.trials} trials on 8 of the samples. The ratio is that of the projections' parameters; in "
            "brackets: the share of all parameters that went.\n"
            f"{self.rows.machines()}\n\n"
            f"Command: `python benchmarks/lowrank.py --text {name} --calibration {calibration}`"
        )


if __name__ == "__main__":
    main()
