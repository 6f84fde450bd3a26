"""Figure 4's question: four compressed models before and after the same time of every recovery.

    python benchmarks/recovery.py --text wiki.test.raw --data alpaca.jsonl.gz

First the pace of every training is measured, which wants a machine that does nothing else; then each recovery trains
for the steps that the time holds at its pace (the median of the four models), so that later load on the machine
changes no result. Rows are kept in benchmarks/rows/ and a run that was stopped goes on where it was; RESULTS.md gets
the tables.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import fmean, median
from typing import Any

from results import Rows, markdown_table, write_section

import swm
from swm.plugins.loading import load_plugins
from swm.recipe.building import build_recipe
from swm.run.pipeline import CompressionPipeline

EACH = {"name": "cosine", "tokens": "each"}
MODELS: dict[str, dict[str, Any]] = {
    "block-influence, 6 layers": {"stages": [{"depth": {"pruner": "block-influence", "target": {"layers": 6}}}]},
    "sliding-window, 3 layers": {
        "stages": [{"depth": {"pruner": "sliding-window", "similarity": EACH, "target": {"layers": 3}}}]
    },
    "llm-pruner, 20 %": {"stages": [{"width": {"pruner": "llm-pruner", "target": {"ratio": 0.2}}}]},
    "sliding-window + llm-pruner, 20 %": {
        "stages": [{"depth": {"pruner": "sliding-window", "similarity": EACH}}, {"width": {"pruner": "llm-pruner"}}],
        "budget": {"ratio": 0.2, "depth_share": 0.4},
    },
}
RECOVERIES: dict[str, dict[str, Any] | None] = {
    "none": None,
    "lora": {"name": "lora"},
    "distill": {"name": "distill"},
    "partial": {"name": "partial"},
    "full": {"name": "full"},
}
QUICK = {"sliding-window": "last", "llm-pruner": "magnitude"}
"""What leaves a model of the same shape at once: the pace depends on nothing else."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--text", required=True, help="the WikiText-2 test file, or any text")
    parser.add_argument("--data", required=True, help="an instruction file in Alpaca's format")
    parser.add_argument("--seconds", type=float, default=600, help="the time of each training")
    parser.add_argument("--limit", type=int, default=100, help="items of each task")
    parser.add_argument("--max-tokens", type=int, default=16 * 512)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rows"))
    parser.add_argument("--known-only", action="store_true", help="write the tables from the rows that are there")
    parser.add_argument("--only", nargs="+", default=list(RECOVERIES), help="the recoveries to measure now")
    parser.add_argument("--pace-seconds", type=float, default=45, help="how long to measure the pace of a training")
    parser.add_argument("--pace-only", action="store_true", help="measure every pace and stop")
    options = parser.parse_args()
    bench = Bench(options)
    for recovery in RECOVERIES:
        bench.pace(recovery)
    if options.pace_only:
        return
    dense = bench.row("dense", next(iter(MODELS)), "none", "dense")
    rows = [["dense", "", *bench.cells(dense)]]
    for name in MODELS:
        for recovery in RECOVERIES:
            found = bench.row(f"{name} | {recovery}", name, recovery, "compressed")
            rows.append([name, recovery, *bench.cells(found)])
    columns = ["model", "recovery", "steps", "perplexity", "average of seven tasks, %"]
    write_section("recovery", f"{bench.protocol()}\n\n{markdown_table(columns, rows)}")


class Bench:
    """Runs a recipe for each row."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.rows = Rows(options.out / "recovery.jsonl", options.known_only)

    def row(self, key: str, model: str, recovery: str, which: str) -> dict[str, Any]:
        self.rows.known_only = self.options.known_only or recovery not in self.options.only
        return self.rows.measure(key, lambda: self._measure(model, recovery, which))

    def pace(self, recovery: str) -> float | None:
        """Seconds a step, measured once for every model, the median; None without a training."""
        if RECOVERIES[recovery] is None:
            return None
        self.rows.known_only = self.options.known_only or recovery not in self.options.only
        rows = [
            self.rows.measure(f"pace: {model} | {recovery}", lambda m=model: self._pace(m, recovery))
            for model in MODELS
        ]
        found = [float(row["seconds_per_step"]) for row in rows if "missing" not in row]
        return median(found) if found else None

    def _pace(self, model: str, recovery: str) -> dict[str, Any]:
        clock = _Clock()
        plugins = load_plugins()
        plugins.manager.register(clock)
        recipe = self._recipe(model, recovery, seconds=self.options.pace_seconds)
        for stage in recipe["stages"]:
            for settings in stage.values():
                quick = QUICK.get(settings.get("pruner", ""))
                if quick:
                    settings.pop("similarity", None)
                    settings["pruner"] = quick
        pipeline = CompressionPipeline(build_recipe({**recipe, "evaluate": {}}, plugins), plugins)
        ready = pipeline.prepare()
        pipeline.decide(ready, pipeline.load(ready), apply_last=True)
        return {"seconds_per_step": fmean(clock.steps()), "steps": len(clock.steps())}

    def _recipe(self, model: str, recovery: str, **schedule: Any) -> dict[str, Any]:
        options = self.options
        stages = [{kind: dict(settings) for kind, settings in stage.items()} for stage in MODELS[model]["stages"]]
        if RECOVERIES[recovery] is not None:
            data = {"name": "alpaca", "path": options.data}
            stages.append({"recover": {**RECOVERIES[recovery], **schedule, "data": data, "batch": 16}})
        return {
            **MODELS[model],
            "model": options.model,
            "dtype": "float32",
            "device": "cpu",
            "calibration": {"text": "python-docs", "samples": 10, "seq_len": 128},
            "stages": stages,
            "evaluate": {
                "perplexity": {"text": options.text, "seq_len": 512, "bos": "none", "max_tokens": options.max_tokens},
                "tasks": ["seven"],
                "limit": options.limit,
            },
        }

    def _measure(self, model: str, recovery: str, which: str) -> dict[str, Any]:
        plugins, pace = load_plugins(), self.pace(recovery)
        schedule = {} if pace is None else {"steps": max(1, round(self.options.seconds / pace))}
        pipeline = CompressionPipeline(build_recipe(self._recipe(model, recovery, **schedule), plugins), plugins)
        ready = pipeline.prepare()
        view = pipeline.load(ready)
        facts: dict[str, Any] = {}
        if which == "compressed":
            facts = dict(pipeline.decide(ready, view, apply_last=True).stages[-1].facts)
        found = dict(ready.evaluator.measure(view.model, which))
        return {
            "parameters": view.parameters(),
            "steps": facts.get("steps", 0),
            "losses": facts.get("losses", []),
            "seconds": {name: round(value, 1) for name, value in pipeline.seconds.items()},
            "perplexity": found["perplexity"],
            "tasks": found["tasks"],
        }

    def cells(self, row: dict[str, Any]) -> list[str]:
        """Steps, perplexity, and the mean accuracy with its standard error."""
        if "missing" in row:
            return ["", "not measured", "not measured"]
        value, mean = row["perplexity"]["value"], row["tasks"]["average"]
        shown = f"{value:.1f}" if value < 1000 else f"{value:.0e}"
        accuracy = f"{100 * mean['value']:.1f} ± {100 * mean['standard_error']:.1f}"
        return [str(row["steps"] or ""), shown, accuracy]

    def protocol(self) -> str:
        options = self.options
        text, data = Path(options.text).name, Path(options.data).name
        return (
            "## Recovery: before and after the same time of training\n\n"
            f"Model `{options.model}`, float32. Each recovery trains for the steps that {options.seconds:g} s hold on "
            f"this machine when it does nothing else (its pace, median of the four models), with batches of 16, on "
            f"`{data}` (Alpaca's template, prompts masked, pieces of at most 256 tokens), other parameters at their "
            f"defaults. Perplexity on `{text}` (BOS: none, windows of 512, the first {options.max_tokens} tokens); the "
            f"seven tasks with the first {options.limit} items of each, 0-shot, lm-eval's prompts and metrics, "
            "unweighted mean with its standard error.\n"
            f"{self.rows.machines()}\n\n"
            f"Command: `python benchmarks/recovery.py --text {text} --data {data}`"
        )


class _Clock:
    """Notes when the steps of a training end."""

    def __init__(self) -> None:
        self.times: list[float] = []

    @swm.hookimpl
    def swm_training_step(self, step: int) -> None:
        self.times.append(time.perf_counter())

    def steps(self) -> list[float]:
        """The seconds of every step after the first, which warms up."""
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]


if __name__ == "__main__":
    main()
