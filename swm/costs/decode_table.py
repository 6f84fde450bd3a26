"""The table of decode times on this machine: of one layer in each shape, measured once and kept on the disk."""

from __future__ import annotations

import gc
import hashlib
import json
import platform
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import transformers

from swm.cache.recorded_numbers import RecordedNumbers
from swm.costs.decode_probe import decoding, one_layer, scoring
from swm.files.cache_folder import cache_folder
from swm.model.units import Part
from swm.model.view import ModelView

FOLDER = "decode-times"
# Turns that count, and those before them.
TURNS, WARM_UP = 21, 4
# Rows of the vocabulary projection that are timed; the others take as long each.
ROWS = 16384
# So many points of a curve are measured; what lies between is on a line.
POINTS = 8
Run = Callable[[], None]


class DecodeTable:
    """How long one token takes in a layer of each shape, in times of the first dense layer.

    What is measured takes turns with that layer, and a number is the median of the quotients, so that a machine whose
    speed drifts changes it little.
    """

    def __init__(self, dense: ModelView, context: int, dtype: torch.dtype) -> None:
        """The table for a model without its weights.

        Args:
            dense: The original model.
            context: How many tokens there are before the one that is timed.
            dtype: The type of the weights.
        """
        self._dense, self._context, self._dtype = dense, context, dtype
        about = {
            "what": "decode times",
            "base": self.kind(0),
            "context": context,
            "dtype": str(dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "machine": [platform.node(), platform.machine(), torch.backends.cpu.get_cpu_capability()],
            "versions": [torch.__version__, transformers.__version__],
        }
        folder = cache_folder() / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:40]
        self._numbers = RecordedNumbers(folder / f"{name}.jsonl", about)
        self._base: Run | None = None

    def kind(self, position: int) -> str:
        """What tells the layer of the dense model there from those of other shapes, as a hash."""
        layer, config = self._dense.layers[position], self._dense.config
        types = getattr(config, "layer_types", None)
        parts: list[Any] = [type(layer).__name__, config.model_type, types[position] if types else None]
        parts += [sorted((name, list(p.shape)) for name, p in layer.named_parameters())]
        parts += [getattr(config, name, None) for name in ("sliding_window", "_attn_implementation")]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def layer(self, position: int) -> float:
        """The time of the dense model's layer there."""
        return self._number(self.kind(position), lambda: self._decoding(position))

    def units(self, position: int, part: Part, gone: int) -> float:
        """How much less time the layer there takes without so many units of a part."""
        units = self._dense.layer(position).units(part)
        points = self._points(position, part)
        left = max(units - gone, points[0])
        saved = [self._saved(position, part, point) for point in points]
        # More units that go never save less: where it seems so, that is noise.
        for i in range(len(points) - 2, -1, -1):
            saved[i] = max(saved[i], saved[i + 1])
        above = next(i for i, point in enumerate(points) if point >= left)
        if points[above] == left:
            return saved[above]
        part_of_way = (points[above] - left) / (points[above] - points[above - 1])
        return saved[above] + part_of_way * (saved[above - 1] - saved[above])

    def head(self, rows: int) -> float:
        """The time of the scores of so many tokens."""
        model: Any = self._dense.model
        width = model.get_input_embeddings().weight.shape[1]
        timed = min(rows, ROWS)
        each = self._number(f"scores {timed} {width}", lambda: scoring(timed, width, self._dtype))
        return each * rows / timed

    def _points(self, position: int, part: Part) -> list[int]:
        """The numbers of units that are measured, ascending: the fewest that can stay, and all, among them."""
        layer = self._dense.layer(position)
        units, step = layer.units(part), layer.geometry.kv_heads if part == "queries" else 1
        counts = {max(step, round(units * i / POINTS / step) * step) for i in range(POINTS + 1)}
        return sorted(counts | {units})

    def _saved(self, position: int, part: Part, kept: int) -> float:
        if kept == self._dense.layer(position).units(part):
            return 0.0
        name = f"{self.kind(position)} {part} {kept}"
        return max(self.layer(position) - self._number(name, lambda: self._decoding(position, part, kept)), 0.0)

    def _decoding(self, position: int, part: Part | None = None, kept: int = 0) -> Run:
        return decoding(one_layer(self._dense, position, part, kept), self._context, self._dtype)

    def _number(self, name: str, make: Callable[[], Run]) -> float:
        known = self._numbers.get(name)
        if known is None:
            if name == self.kind(0):
                known = 1.0
            else:
                if self._base is None:
                    self._base = self._decoding(0)
                known = quotient(make(), self._base)
            self._numbers.put(name, known)
        return known


def quotient(run: Run, base: Run, clock: Callable[[], float] = time.perf_counter) -> float:
    """How long one takes, in times of the other: the median over runs in turns, every second one in reverse order.

    Args:
        run: What is timed.
        base: What it is compared with.
        clock: Gives the time in seconds.
    """
    quotients = []
    collects = gc.isenabled()
    gc.disable()
    try:
        for turn in range(WARM_UP + TURNS):
            times = {}
            for name, work in [("run", run), ("base", base)][:: 1 if turn % 2 == 0 else -1]:
                start = clock()
                work()
                times[name] = clock() - start
            if turn >= WARM_UP:
                quotients.append(times["run"] / times["base"])
    finally:
        if collects:
            gc.enable()
    return median(quotients)
