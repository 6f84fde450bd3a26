"""DepthEngine: scores merged models without copying or changing the model.

SWM works from the top, so what lies below a window is the original model. The engine keeps the hidden states that enter
every layer; a trial runs the merged layer and what lies above it, and nothing else.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from swm.errors import RecipeError
from swm.interfaces.merger import LayerMerger, LayerWindow, State
from swm.interfaces.similarity import SampleMetric, SimilarityMetric
from swm.interfaces.stage import StageContext
from swm.progress import Task
from swm.surgery import check_state, same_memory
from swm.view import ModelView
from swm.windows import Window, check_windows

# The next-token scores of one piece of text, in float32, take at most this much memory at a time.
LOGITS_BYTES = 128 * 2**20
# Those of the original model are kept for all trials when they take no more than this.
REFERENCE_LOGITS_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Slot:
    """One layer of a merged model: the module at `position` with its own parameters, or with those of a window."""

    position: int
    window: Window | None = None


Program = tuple[Slot, ...]


class DepthEngine:
    """Implements `DepthContext`: positions are those of the model as it is when the engine is made."""

    def __init__(
        self,
        context: StageContext,
        similarity: SimilarityMetric,
        merger: LayerMerger,
        target: int | None,
        task: Task | None = None,
    ) -> None:
        view = context.view
        self.view: ModelView = view
        self.layers = len(view.layers)
        self.target = target
        self.seed = context.seed
        self.similarity = similarity
        self.merger = merger
        self.trials = 0
        self.layer_forwards = self.layers
        self.nan_trials = 0
        self._task = task
        self._recording = view.record(context.calibration.ids)
        self._reference = self._recording.states[-1] if context.reference is None else context.reference
        self._reference_ready = self._ready(self._reference) if similarity.space != "logits" else None
        self._reference_logits: list[Tensor] | None = None
        self._plain: Program = tuple(Slot(i) for i in range(self.layers))
        self._base: Program = self._plain
        self._states: list[Tensor] = list(self._recording.states)
        self._originals = self._recording.states[1:] if merger.needs_activations else []
        self._recording.states = []
        self._merged: dict[tuple[Window, Program], State] = {}
        self._similarities: dict[Program, float] = {}
        self._losses: dict[Program, float] = {}

    def trial(self, windows: Sequence[Window]) -> float:
        """See `DepthContext.trial`. Not a number when the merged model overflows."""
        program = self._program(windows)
        if program not in self._similarities:
            self.trials += 1
            value = self._compare_ends(self._end(program))
            self.nan_trials += math.isnan(value)
            self._similarities[program] = value
            self._tell(windows, f"similarity {value:.4f}")
        return self._similarities[program]

    def loss(self, windows: Sequence[Window]) -> float:
        """See `DepthContext.loss`."""
        program = self._program(windows)
        if program not in self._losses:
            self.trials += 1
            self._losses[program] = self._next_token_loss(self._end(program))
            self._tell(windows, f"loss {self._losses[program]:.4f}")
        return self._losses[program]

    def compare(self, lower: int, upper: int) -> float:
        """See `DepthContext.compare`: raw hidden states, before any final norm."""
        if self.similarity.space == "logits":
            raise RecipeError(
                f"similarity '{self.similarity.name}' compares next-token distributions, and this depth pruner "
                "compares layers; use one that compares hidden states"
            )
        return self.similarity.compare(self._states[lower].float(), self._states[upper].float())

    def commit(self, windows: Sequence[Window]) -> None:
        """See `DepthContext.commit`: runs the layers that differ and keeps what enters each."""
        program = self._program(windows)
        shared = _shared(program, self._base)
        states = self._states[: shared + 1]
        for slot in program[shared:]:
            states.append(self._run(slot, states[-1], program))
        self._base, self._states = program, states

    def fitted(self, windows: Sequence[Window]) -> dict[Window, State]:
        """The state of each window as the final model will hold it, for mergers that need activations.

        It shares no memory with the model, which later stages change.
        """
        program = self._program(windows)
        self._end(program)
        return {
            window: {key: value.clone() for key, value in self._state(window, program).items()} for window in windows
        }

    def _program(self, windows: Sequence[Window]) -> Program:
        ordered = check_windows(windows, self.layers)
        # Merged states may be fresh tensors, each as large as a layer; those of the current windows are enough.
        self._merged = {key: state for key, state in self._merged.items() if key[0] in ordered}
        slots: list[Slot] = []
        position = 0
        for window in ordered:
            slots.extend(self._plain[position : window.first])
            slots.append(self._slot(window))
            position = window.last + 1
        return (*slots, *self._plain[position:])

    def _slot(self, window: Window) -> Slot:
        """A window whose result is one of its layers unchanged (a deletion) is that layer: nothing to run anew."""
        survivor = window.first if self.merger.survivor(window.keep) == "bottom" else window.last
        if self.merger.needs_activations:
            return Slot(survivor, window)
        state = self._data_free_state(window)
        own = self.view.state(survivor)
        unchanged = all(same_memory(state[key], own[key]) for key in own)
        return Slot(survivor) if unchanged else Slot(survivor, window)

    def _data_free_state(self, window: Window) -> State:
        key = (window, ())
        if key not in self._merged:
            states = [self.view.state(i) for i in range(window.first, window.last + 1)]
            merged = self.merger.merge(LayerWindow(states, window.keep))
            self._merged[key] = check_state(self.merger, self.view, window.first, merged)
        return self._merged[key]

    def _state(self, window: Window, program: Program, entering: Tensor | None = None) -> State:
        if not self.merger.needs_activations:
            return self._data_free_state(window)
        below = program[: [slot.window for slot in program].index(window)]
        key = (window, below)
        if key not in self._merged:
            given = self._window(window, below if entering is None else entering)
            self._merged[key] = check_state(self.merger, self.view, window.first, self.merger.merge(given))
        return self._merged[key]

    def _window(self, window: Window, below: Program | Tensor) -> LayerWindow:
        """A window with the activations that a merger may ask for."""

        @functools.cache
        def entering() -> Tensor:
            return below if isinstance(below, Tensor) else self._end(below)

        def run(state: State) -> Tensor:
            self.layer_forwards += 1
            return self.view.run_layer(self._recording, window.first, entering(), state)

        def inputs(role: str) -> Tensor:
            self.layer_forwards += 1
            return self.view.run_watched(self._recording, window.first, entering(), role)[1]

        states = [self.view.state(i) for i in range(window.first, window.last + 1)]
        return LayerWindow(states, window.keep, entering, lambda: self._originals[window.last], run, inputs)

    def _run(self, slot: Slot, hidden: Tensor, program: Program) -> Tensor:
        self.layer_forwards += 1
        state = None if slot.window is None else self._state(slot.window, program, hidden)
        return self.view.run_layer(self._recording, slot.position, hidden, state)

    def _end(self, program: Program) -> Tensor:
        """The hidden states after the last slot of a program, from the longest part that is already known."""
        shared = _shared(program, self._base)
        hidden = self._states[shared]
        for slot in program[shared:]:
            hidden = self._run(slot, hidden, program)
        return hidden

    def _ready(self, end: Tensor) -> Tensor:
        return (self.view.tail(end) if self.similarity.space == "normed" else end).float()

    def _compare_ends(self, end: Tensor) -> float:
        if self._reference_ready is not None:
            return self.similarity.compare(self._reference_ready, self._ready(end))
        if not isinstance(self.similarity, SampleMetric):
            return self.similarity.compare(self.view.logits(self._reference).float(), self.view.logits(end).float())
        values = [
            self.similarity.per_sample(reference, self.view.logits(end[rows]).float())
            for rows, reference in zip(self._pieces(end), self._logits_of_reference(), strict=True)
        ]
        return self.similarity.reduce(torch.cat(values))

    def _logits_of_reference(self) -> Iterable[Tensor]:
        """The original model's next-token scores, piece by piece."""
        pieces = (self.view.logits(self._reference[rows]).float() for rows in self._pieces(self._reference))
        samples, seq = self._reference.shape[:2]
        if samples * seq * self.view.config.vocab_size * 4 > REFERENCE_LOGITS_BYTES:
            return pieces
        if self._reference_logits is None:
            self._reference_logits = list(pieces)
        return self._reference_logits

    def _next_token_loss(self, end: Tensor) -> float:
        total = 0.0
        ids = self._recording.ids.to(end.device)
        for rows in self._pieces(end):
            logits = self.view.logits(end[rows])[:, :-1].float()
            total += float(F.cross_entropy(logits.flatten(0, 1), ids[rows, 1:].flatten(), reduction="sum"))
        return total / ids[:, 1:].numel()

    def _pieces(self, end: Tensor) -> list[slice]:
        samples, seq = end.shape[:2]
        size = max(1, LOGITS_BYTES // (seq * self.view.config.vocab_size * 4))
        return [slice(i, i + size) for i in range(0, samples, size)]

    def _tell(self, windows: Sequence[Window], result: str) -> None:
        if self._task is not None:
            self._task.advance(note=f"{' '.join(map(str, windows)) or 'no window'}: {result}")


def _shared(program: Program, base: Program) -> int:
    """How many slots two programs have in common from the bottom."""
    count = 0
    for mine, theirs in zip(program, base, strict=False):
        if mine != theirs:
            break
        count += 1
    return count
