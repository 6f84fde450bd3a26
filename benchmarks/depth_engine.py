"""The depth engine beside the same search without caches and a plain reference of the released loop, in one run.

    python benchmarks/depth_engine.py [--model smollm2-135m] [--threshold 0.95] [--samples 10] [--seq-len 128]

The reference copies the whole model for each trial and runs every layer and the vocabulary projection, one sample at a
time, as the released code does. `no caches` is the engine, made to run every layer of each trial. Each side runs in a
process of its own, so that peak memory can be told apart; all walk with `quirks: released` and the flattened cosine.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from results import machine, markdown_table, peak_memory, write_section
from transformers import LlamaConfig, LlamaForCausalLM

from swm.depth.engine import DepthEngine
from swm.interfaces.progress import Silent
from swm.interfaces.stage import StageContext
from swm.interfaces.text import Calibration
from swm.loading import models
from swm.model.families import find_family
from swm.model.shape import shape_now
from swm.model.view import ModelView
from swm.model.windows import Window
from swm.plugins.loading import load_plugins
from swm.pruners.sliding_window import SlidingWindow
from swm.text.calibration import draw_samples

VOCABULARY = 8192
PARTS = {"reading the text once": "record", "layers of trials": "run_batch", "merged weights": "data_free"}
"""What the engine's time is told apart into, by the methods that it is spent in; comparing is the rest."""
PROJECTIONS = ("gate_proj", "down_proj", "up_proj", "q_proj", "k_proj", "v_proj", "o_proj")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="or random:LAYERSxWIDTH")
    parser.add_argument("--text", default="python-docs")
    parser.add_argument("--threshold", type=float, default=0.95)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--side", choices=("load", *SIDES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        work = load_side if options.side == "load" else SIDES[options.side]
        sys.stdout.write(json.dumps(work(options)) + "\n")
        return
    floor = run_side("load", sys.argv[1:])["peak"]
    found = {side: run_side(side, sys.argv[1:]) for side in SIDES}
    reference = found["plain reference"]
    rows = [
        ["wall time, s", *(f"{side['seconds']:.1f}" for side in found.values())],
        ["times faster than the reference", *(f"{reference['seconds'] / s['seconds']:.1f}" for s in found.values())],
        ["layer-forwards", *(str(side["layer_forwards"]) for side in found.values())],
        ["peak memory, MiB", *(f"{side['peak']:.0f}" for side in found.values())],
        ["peak memory / (model and one batch)", *(f"{side['peak'] / floor:.2f}" for side in found.values())],
        *([f"of the time: {part}", *(share(side, part) for side in found.values())] for part in PARTS),
        ["windows", *(shown(side["windows"]) for side in found.values())],
    ]
    text = (
        "## The depth engine beside a plain reference of the released loop\n\n"
        f"Model `{options.model}`, {options.samples} x {options.seq_len} tokens of {options.text}, threshold "
        f"{options.threshold}, flattened cosine, quirks: released, float32. The reference copies the model for each "
        "trial and runs every layer and the vocabulary projection; `no caches` is the engine made to run every layer "
        "of each trial. Each side in a process of its own, one after the other. What the parts of the time leave over "
        "is spent in comparing.\n"
        f"Machine: {machine()}.\n\nCommand: `python benchmarks/depth_engine.py`\n\n"
        f"{markdown_table(['', *found], rows)}"
    )
    print(text)
    write_section("depth-engine", text)


def share(side: dict[str, Any], part: str) -> str:
    return f"{side['parts'][part] / side['seconds']:.0%}" if part in side.get("parts", {}) else ""


def shown(windows: list[list[int]]) -> str:
    return ", ".join(f"{first}-{last}" for first, last in windows) or "none"


def run_side(side: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What a side measured, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments, "--side", side],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def prepare(options: argparse.Namespace) -> tuple[ModelView, Calibration]:
    registry = load_plugins().registry
    if options.model.startswith("random:"):
        model = random_model(*map(int, options.model.removeprefix("random:").split("x")))
        ids = torch.randint(0, VOCABULARY, (options.samples, options.seq_len), generator=torch.manual_seed(0))
        return ModelView(model, find_family(model.config, registry.families)), Calibration(ids, {"name": "random"}, 0)
    source = models.locate(options.model, registry, Silent())
    text = registry.build("text", options.text)
    calibration = draw_samples(
        models.load_tokenizer(source), text, samples=options.samples, seq_len=options.seq_len, seed=0
    )
    model = models.load_model(source, dtype="float32", device="cpu")
    return ModelView(model, find_family(model.config, registry.families)), calibration


def random_model(layers: int, width: int) -> Any:
    """A Llama without training, whose layers each change their input by some."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(width / 10)
    return model


@torch.no_grad()
def load_side(options: argparse.Namespace) -> dict[str, Any]:
    """The floor: the model and one forward pass over the calibration batch."""
    view, calibration = prepare(options)
    view.body(input_ids=calibration.ids, use_cache=False)
    return {"peak": peak_memory()}


class Uncached(DepthEngine):
    """Runs all of the text through every layer in each trial, and each trial again."""

    def trial(self, windows: Sequence[Window], above: float | None = None) -> float:
        streams = self._merger_trials.settled()
        program = self._merger_trials.program(windows)
        hidden, carried = streams.scored.states[0], streams.scored.carried_to(0)
        for slot in program:
            hidden = streams.run(slot, hidden, program, streams.scored, carried)
        return self._merger_trials.reference.similarity(hidden)


def engine_side(options: argparse.Namespace, engine: type[DepthEngine], **search: Any) -> dict[str, Any]:
    view, calibration = prepare(options)
    registry = load_plugins().registry
    start = time.perf_counter()
    context = StageContext(view, calibration, shape_now(view), 0, Silent())
    similarity, merger = registry.build("similarity", "cosine"), registry.build("merger", "consolidate")
    made = engine(context, similarity, merger, None)
    states = made._merger_trials._states
    parts = {part: timed(states if hasattr(states, method) else view, method) for part, method in PARTS.items()}
    proposal = SlidingWindow(threshold=options.threshold, quirks="released", **search).propose(made)
    return {
        "seconds": time.perf_counter() - start,
        "layer_forwards": made.layer_forwards,
        "windows": [[w.first, w.last] for w in proposal.windows],
        "peak": peak_memory(),
        "parts": {part: sum(spent) for part, spent in parts.items()},
    }


def timed(owner: Any, method: str) -> list[float]:
    """From now on, the seconds of each call of a method."""
    spent: list[float] = []
    plain = getattr(owner, method)

    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return plain(*args, **kwargs)
        finally:
            spent.append(time.perf_counter() - start)

    setattr(owner, method, call)
    return spent


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


SIDES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "swm": partial(engine_side, engine=DepthEngine),
    "swm, search: bisect": partial(engine_side, engine=DepthEngine, search="bisect"),
    "no caches": partial(engine_side, engine=Uncached),
    "plain reference": reference_side,
}

if __name__ == "__main__":
    main()
