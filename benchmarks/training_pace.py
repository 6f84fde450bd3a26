"""Tokens per second of a distillation: the original in every step, and answers that were written down before.

    python benchmarks/training_pace.py --calibration c4.jsonl.gz --data alpaca.jsonl.gz

Every way trains the same model for a few steps, each `--times` times, in turns, so that load on the machine meets all
of them. Rows are kept in benchmarks/rows/; RESULTS.md gets the table.
"""

from __future__ import annotations

import argparse
import os
import time
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from results import Rows, markdown_table, write_section

import swm
from swm.plugins.loading import load_plugins
from swm.recipe.building import build_recipe
from swm.run.pipeline import CompressionPipeline
from swm.training.training_set import training_set

BATCH, CUTOFF, LAYERS = 16, 256, 6
TRAINS = "adapters", "all"
BEFORE = "the original in every step, one piece a row"
WAYS: dict[str, dict[str, Any]] = {
    BEFORE: {"teacher": "live", "packing": False},
    "answers from the cache": {"packing": False},
    "answers from the cache, packed rows: the default": {},
    "the same, `mixed_precision: auto`": {"mixed_precision": "auto"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--calibration", required=True, help="plain text, of which all pieces are full")
    parser.add_argument("--data", required=True, help="an instruction file in Alpaca's format, whose pieces are short")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--trains", nargs="+", default=list(TRAINS))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rows"))
    parser.add_argument("--known-only", action="store_true", help="write the table from the rows that are there")
    options = parser.parse_args()
    Pace(options).table()


class Pace:
    """Runs each way and counts tokens and seconds."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.rows = Rows(options.out / "training_pace.jsonl", options.known_only)
        self.texts: dict[str, Any] = {
            "C4": options.calibration,
            "Alpaca": {"name": "alpaca", "path": options.data},
        }

    def table(self) -> None:
        """Measure what is missing, and write the section."""
        cells = []
        for text in self.texts:
            for trains in self.options.trains:
                rows: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
                with TemporaryDirectory() as folder:
                    # Answers of earlier runs would be read.
                    os.environ["SWM_CACHE"] = folder
                    for turn in range(self.options.times):
                        for way in WAYS:
                            rows[way].append(self._row(text, trains, way, turn))
                cells += self._cells(text, trains, rows)
        columns = [
            "text, what is trained, how",
            "tokens per second",
            "times",
            "seconds a step",
            "first step, s",
            "last turn",
        ]
        write_section("training-pace", f"{self._protocol()}\n\n{markdown_table(columns, cells)}")

    def _row(self, text: str, trains: str, way: str, turn: int) -> dict[str, Any]:
        key = f"{text} | {trains} | {way} | {turn}"
        return self.rows.measure(key, lambda: self._measure(text, {"trains": trains, **WAYS[way]}, turn))

    def _measure(self, text: str, settings: dict[str, Any], turn: int) -> dict[str, Any]:
        options, clock, plugins = self.options, _Clock(), load_plugins()
        plugins.manager.register(clock)
        steps = options.steps
        settings = {"name": "distill", "data": self.texts[text], "batch": BATCH, "cutoff": CUTOFF, **settings}
        recipe = {
            "model": options.model,
            "dtype": "float32",
            "device": "cpu",
            "calibration": {"text": "python-docs", "samples": 10, "seq_len": 128},
            "stages": [
                {"depth": {"pruner": "last", "target": {"layers": LAYERS}}},
                {"recover": {**settings, "steps": steps}},
            ],
            "evaluate": {},
            # The state of a training that ended would be found, and no step taken.
            "seed": turn,
        }
        built = build_recipe(recipe, plugins)
        pipeline = CompressionPipeline(built, plugins)
        ready = pipeline.prepare()
        start = time.perf_counter()
        facts = dict(pipeline.decide(ready, pipeline.load(ready), apply_last=True).stages[-1].facts)
        recovery: Any = built.stages[-1]
        source = recovery.recovery.data
        limit = steps * BATCH if "teacher" in facts else None
        data = training_set(ready.tokenizer, source, cutoff=CUTOFF, seed=built.seed, limit=limit)
        counts = [sum(len(piece.ids) for piece in pieces) for pieces in islice(data.batches(BATCH, built.seed), steps)]
        seconds = [after - before for before, after in zip(clock.times, clock.times[1:], strict=False)]
        return {
            # The first step warms up.
            "tokens_per_second": sum(counts[1:]) / sum(seconds),
            "seconds_per_step": sum(seconds) / len(seconds),
            "seconds_before": clock.times[0] - start,
            "packed": facts["packed"],
            "mixed_precision": facts["mixed_precision"],
        }

    def _cells(self, text: str, trains: str, rows: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
        found = {way: [row for row in each if "missing" not in row] for way, each in rows.items()}
        pace = {way: median(row["tokens_per_second"] for row in each) for way, each in found.items() if each}
        cells = []
        for way, each in found.items():
            name = f"{text}, `trains: {trains}`, {way}"
            if way not in pace or BEFORE not in pace:
                cells.append([name, "not measured", "", "", "", ""])
                continue
            step = median(row["seconds_per_step"] for row in each)
            before = [f"{row['seconds_before']:.0f}" for row in (each[0], each[-1])]
            cells.append([name, f"{pace[way]:.0f}", f"{pace[way] / pace[BEFORE]:.2f}", f"{step:.2f}", *before])
        return cells

    def _protocol(self) -> str:
        options = self.options
        text, data = Path(options.calibration).name, Path(options.data).name
        trains = "" if options.trains == list(TRAINS) else f" --trains {' '.join(options.trains)}"
        return (
            "## Tokens per second of a distillation, before and after\n\n"
            f"Model `{options.model}` without its last {LAYERS} layers, float32; batches of {BATCH} pieces of at most "
            f"{CUTOFF} tokens, {options.steps} steps, the first of which is not counted; turns: {options.times}, of "
            f"which the median is taken. C4 is `{text}`, Alpaca is `{data}`. Tokens are those of the pieces, without "
            "padding. The last columns are the time from loading the model to the end of the first step, in the first "
            "turn and in the last: of answers from the cache, the first one holds the time in which the original "
            "answers.\n"
            f"{self.rows.machines()}\n\n"
            f"Command: `python benchmarks/training_pace.py --calibration {text} --data {data}{trains}`"
        )


class _Clock:
    """Notes when the steps of a training end."""

    def __init__(self) -> None:
        self.times: list[float] = []

    @swm.hookimpl
    def swm_training_step(self, step: int) -> None:
        self.times.append(time.perf_counter())


if __name__ == "__main__":
    main()
