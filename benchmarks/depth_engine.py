"""The depth engine beside a plain reference of the released loop, paired in one run.

    python benchmarks/depth_engine.py [--model smollm2-135m] [--threshold 0.95] [--samples 10] [--seq-len 128]

The reference copies the whole model for each trial and runs every layer and the vocabulary projection, one sample at a
time, as the released code does. Each side runs in a process of its own, so that peak memory can be told apart; both
walk with `quirks: released` and the flattened cosine.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from typing import Any

import torch
import torch.nn.functional as F
from results import machine, markdown_table, peak_memory, write_section

from swm import models
from swm.calibration import Calibration, draw
from swm.depth import DepthEngine
from swm.interfaces.stage import StageContext
from swm.plugins import load_plugins
from swm.progress import Silent
from swm.pruners.sliding_window import SlidingWindow
from swm.report import shape_now
from swm.view import ModelView
from swm.windows import Window

PROJECTIONS = ("gate_proj", "down_proj", "up_proj", "q_proj", "k_proj", "v_proj", "o_proj")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--text", default="python-docs")
    parser.add_argument("--threshold", type=float, default=0.95)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--side", choices=("load", "engine", "reference"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        sys.stdout.write(json.dumps(SIDES[options.side](options)) + "\n")
        return
    found = {side: run_side(side) for side in SIDES}
    load, engine, reference = (found[side] for side in SIDES)
    rows = []
    for label, key, form in [("wall time, s", "seconds", "{:.1f}"), ("layer-forwards", "layer_forwards", "{:.0f}")]:
        rows.append([label, form.format(engine[key]), form.format(reference[key]), ratio(engine[key], reference[key])])
    for label, base in (("peak memory, MiB", 1.0), ("peak memory / (model and one batch)", load["peak"])):
        ours, theirs = engine["peak"] / base, reference["peak"] / base
        rows.append([label, f"{ours:.2f}", f"{theirs:.2f}", ratio(ours, theirs)])
    same = "same" if engine["windows"] == reference["windows"] else "different"
    rows.append(["windows", shown(engine["windows"]), shown(reference["windows"]), same])
    table = markdown_table(["", "swm engine", "plain reference", "ratio"], rows)
    text = (
        "## The depth engine beside a plain reference of the released loop\n\n"
        f"Model `{options.model}`, {options.samples} x {options.seq_len} tokens of {options.text}, threshold "
        f"{options.threshold}, flattened cosine, quirks: released, float32. The reference copies the model for each "
        "trial and runs every layer and the vocabulary projection. Each side in a process of its own, one after the "
        "other.\n"
        f"Machine: {machine()}.\n\nCommand: `python benchmarks/depth_engine.py`\n\n{table}"
    )
    print(text)
    write_section("depth-engine", text)


def ratio(ours: float, theirs: float) -> str:
    return f"{theirs / ours:.2f}"


def shown(windows: list[list[int]]) -> str:
    return ", ".join(f"{first}-{last}" for first, last in windows)


def run_side(side: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--side", side],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def prepare(options: argparse.Namespace) -> tuple[ModelView, Calibration]:
    registry = load_plugins().registry
    source = models.locate(options.model, registry, Silent())
    config = models.load_config(source)
    text = registry.build("text", options.text)
    calibration = draw(models.load_tokenizer(source), text, samples=options.samples, seq_len=options.seq_len, seed=0)
    model = models.load_model(source, dtype="float32", device="cpu")
    row = next(row for row in registry.families if config.model_type in row.model_types)
    return ModelView(model, row), calibration


@torch.no_grad()
def load_side(options: argparse.Namespace) -> dict[str, Any]:
    """The floor: the model and one forward pass over the calibration batch."""
    view, calibration = prepare(options)
    view.body(input_ids=calibration.ids, use_cache=False)
    return {"peak": peak_memory()}


def engine_side(options: argparse.Namespace) -> dict[str, Any]:
    view, calibration = prepare(options)
    registry = load_plugins().registry
    start = time.perf_counter()
    context = StageContext(view, calibration, shape_now(view), 0, Silent())
    similarity, merger = registry.build("similarity", "cosine"), registry.build("merger", "consolidate")
    engine = DepthEngine(context, similarity, merger, None)
    proposal = SlidingWindow(threshold=options.threshold, quirks="released").propose(engine)
    return {
        "seconds": time.perf_counter() - start,
        "layer_forwards": engine.layer_forwards,
        "windows": [[w.first, w.last] for w in proposal.windows],
        "peak": peak_memory(),
    }


@torch.no_grad()
def reference_side(options: argparse.Namespace) -> dict[str, Any]:
    """Every trial copies the model and runs it whole; the decisions are those of papers on the released loop."""
    view, calibration = prepare(options)
    original = view.model
    forwards = 0
    start = time.perf_counter()

    def last_hidden(model: Any) -> list[torch.Tensor]:
        nonlocal forwards
        forwards += len(model.model.layers)
        rows = [model(input_ids=row[None], output_hidden_states=True, use_cache=False) for row in calibration.ids]
        return [row.hidden_states[-1] for row in rows]

    def merged(model: Any, low: int, high: int) -> Any:
        result = copy.deepcopy(model)
        layers = result.model.layers
        for name in PROJECTIONS:
            part = "self_attn" if name in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
            weight = getattr(getattr(layers[low], part), name).weight
            for i in range(low, high + 1):
                weight += getattr(getattr(model.model.layers[i], part), name).weight - weight
        del layers[low + 1 : high + 1]
        result.config.num_hidden_layers = len(layers)
        return result

    expected = last_hidden(original)
    current, numbers = original, list(range(len(view.layers)))
    high, low = len(numbers) - 2, len(numbers) - 3
    windows: list[Window] = []
    while low >= 0:
        trial = merged(current, low, high)
        pairs = zip(expected, last_hidden(trial), strict=True)
        similarity = sum(float(F.cosine_similarity(a.flatten(), b.flatten(), dim=0)) for a, b in pairs) / len(expected)
        if similarity > options.threshold:
            low -= 1
        elif low + 1 != high:
            current = merged(current, low + 1, high)
            windows.append(Window(numbers[low + 1], numbers[high]))
            high = low
        else:
            high, low = high - 1, low - 1
    return {
        "seconds": time.perf_counter() - start,
        "layer_forwards": forwards,
        "windows": [[w.first, w.last] for w in windows],
        "peak": peak_memory(),
    }


SIDES = {"load": load_side, "engine": engine_side, "reference": reference_side}

if __name__ == "__main__":
    main()
