"""Streams: the hidden states of calibration samples on their way through the layers of merged models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from swm.depth.activations import RecordedActivations
from swm.depth.fitting import fit_window
from swm.depth.program import Program, Slot, shared_slots
from swm.depth.slot_states import SlotStates
from swm.model.blocks import without
from swm.model.recording import Carried, Recording
from swm.model.row_store import RowStore
from swm.model.samples import Samples
from swm.model.state import State
from swm.model.view import ModelView
from swm.model.windows import Window


@dataclass
class SearchText:
    """The samples that trials look at, and what is told of their runs.

    `batches` is in how many batches they are run at least. The first question decides that, even if its answer is known
    already; `layer_forwards` counts the layers that they were run through.
    """

    samples: Samples
    batches: int | None = None
    layer_forwards: int = 0

    def decided_batches(self, wanted: int = 1) -> int:
        """The number of batches; `wanted`, where nobody has decided it yet."""
        if self.batches is None:
            self.batches = wanted
        return self.batches


@dataclass
class Stream:
    """Some samples of the text on their way through the layers.

    `states[i]` is what enters slot i of the base program. Where a merger fits to it, `originals[i]` is what enters
    layer i of the unmerged model, and `reached` how far a program below a window was run last, with what left it.
    `carried[i]` is, by batch, what the slots below slot i of the base program hand on to it; see `LayerCall`.
    """

    recording: Recording
    states: list[Tensor]
    originals: list[Tensor] = field(default_factory=list)
    reached: tuple[Program, Tensor, list[Carried]] | None = None
    carried: dict[int, list[Carried]] = field(default_factory=dict)

    def carried_to(self, slot: int) -> list[Carried]:
        """What is handed on to a slot of the base program; nothing where it is what was recorded."""
        return [dict(one) for one in self.carried.get(slot, [{}] * len(self.recording.rows))]


class Streams:
    """The samples that are scored and those that windows are fitted to, run through the model once.

    What enters each slot of the base program is kept; any other program is run from the first slot that differs.
    """

    def __init__(self, view: ModelView, text: SearchText, seen: int, states: SlotStates) -> None:
        """Run the text through the model.

        Args:
            view: The model.
            text: The samples.
            seen: How many of them, the first ones, windows are fitted to; the others are scored. With 0, all are both.
            states: The parameters of the slots.
        """
        self._view = view
        self._text = text
        self._states = states
        self.base = states.plain
        fits = states.merger.needs_activations
        self.scored = self._recorded(text.samples[seen:], fits=fits and not seen)
        self.fitting = self._recorded(text.samples[:seen], fits=True) if seen else self.scored
        self._all = (self.fitting, self.scored) if seen else (self.scored,)
        self.original_end = self.scored.states[-1]
        text.layer_forwards += len(view.layers)

    def settle(self, program: Program) -> None:
        """Make this program the base: run its slots that differ, and keep what enters each."""
        shared = shared_slots(program, self.base)
        for stream in self._all:
            states, carried = stream.states[: shared + 1], stream.carried_to(shared)
            kept = {slot: handed for slot, handed in stream.carried.items() if slot <= shared}
            for slot in program[shared:]:
                states.append(self.run(slot, states[-1], program, stream, carried))
                kept[len(states) - 1] = [dict(one) for one in carried]
            stream.states, stream.carried = states, kept
        self.base = program

    def entering(self, layer: int) -> Tensor:
        """What enters this slot of the base program, of all samples."""
        if len(self._all) == 1:
            return self.scored.states[layer]
        parts = [stream.states[layer] for stream in self._all]
        whole = RowStore(sum(map(len, parts)), self._view.memory)
        start = 0
        for part in parts:
            whole.put(slice(start, start := start + len(part)), part)
        return whole.filled()

    def entering_by_batch(self, layer: int) -> Iterator[Tensor]:
        """As `entering`, copies of the samples of each batch."""
        for stream in self._all:
            for rows in stream.recording.rows:
                yield stream.states[layer][rows].clone()

    def end(self, program: Program, stream: Stream | None = None) -> Tensor:
        """The hidden states after the last slot of a program, from the longest part that is already known.

        They are those of the scored samples unless another `stream` is given.
        """
        return self._end(program, stream or self.scored)[0]

    def _end(self, program: Program, stream: Stream) -> tuple[Tensor, list[Carried]]:
        """As `end`, with what the slots hand on."""
        shared = shared_slots(program, self.base)
        hidden, carried = stream.states[shared], stream.carried_to(shared)
        if stream.reached is not None and shared < len(stream.reached[0]) == shared_slots(program, stream.reached[0]):
            shared, hidden = len(stream.reached[0]), stream.reached[1]
            carried = [dict(one) for one in stream.reached[2]]
        for slot in program[shared:]:
            hidden = self.run(slot, hidden, program, stream, carried)
        return hidden, carried

    def end_by_batch(self, program: Program) -> Iterator[tuple[slice, Tensor]]:
        """As `end` for the scored samples, batch by batch: which samples, and their hidden states.

        It runs with gradients where they are enabled, and counts no layers: see `count_part`.
        """
        shared, stream = shared_slots(program, self.base), self.scored
        for batch, rows in enumerate(stream.recording.rows):
            hidden, carried = stream.states[shared][rows], stream.carried_to(shared)[batch]
            for slot in program[shared:]:
                state = self.state(slot, program)
                with self._as_left(slot):
                    hidden = self._view.run_batch(stream.recording, batch, slot.position, hidden, state, carried)
            yield rows, hidden

    def count_part(self, program: Program, samples: int) -> None:
        """Count the layers that were run when `end_by_batch` was stopped after so many samples."""
        slots = len(program) - shared_slots(program, self.base)
        self._text.layer_forwards += round(slots * samples / len(self.scored.recording.ids))

    def run(self, slot: Slot, hidden: Tensor, program: Program, stream: Stream, carried: Sequence[Carried]) -> Tensor:
        """What leaves a slot of a program.

        Args:
            slot: The slot to run.
            hidden: What enters it, `[samples, seq, hidden]`.
            program: The program that it is a slot of; a window is fitted to what the slots below it give.
            stream: Whose samples these are.
            carried: By batch, what the slots below hand on; this one adds to it.
        """
        self._text.layer_forwards += 1
        state = self.state(slot, program)
        with self._as_left(slot):
            return self._view.run_layer(stream.recording, slot.position, hidden, state, carried)

    def state(self, slot: Slot, program: Program) -> State | None:
        """The parameters of a slot of a program; None for the layer's own."""
        if slot.cut is not None:
            position = slot.position
            return self._states.cut(slot.cut, lambda: self._down_inputs(position))
        window = slot.window
        if window is None:
            return None
        if not self._states.merger.needs_activations:
            return self._states.data_free(window)
        below = program[: [other.window for other in program].index(window)]
        return self._states.fitted(window, below, lambda: self._fit(window, below))

    @contextmanager
    def _as_left(self, slot: Slot) -> Iterator[None]:
        """The slot's layer without its sub-blocks that are gone, for as long as the block runs."""
        with without(self._view.layers[slot.position], dict(pair for block in slot.gone for pair in block.modules)):
            yield

    def _fit(self, window: Window, below: Program) -> State:
        stream = self.fitting
        entering, carried = self._end(below, stream)
        stream.reached = below, entering, carried
        self._text.layer_forwards += 2
        ends = stream.originals[window.first], stream.originals[window.last + 1]
        activations = RecordedActivations(self._view, stream.recording, window, entering, *ends)
        return fit_window(self._states.merger, activations)

    def _down_inputs(self, position: int) -> Tensor:
        """What enters the output projection of the MLP at `position`, `[samples, seq, channels]`."""
        assert self.base == self._states.plain, "cuts are made of the model as it is"
        self._text.layer_forwards += 1
        stream = self.fitting
        return self._view.run_watched(stream.recording, position, stream.states[position], "mlp.down")[1]

    def _recorded(self, samples: Samples, *, fits: bool) -> Stream:
        recording = self._view.record(samples, batches=1 if fits else self._text.decided_batches())
        states, recording.states = recording.states, []
        return Stream(recording, list(states), states if fits else [])


def seen_samples(samples: int) -> int:
    """How many of the samples a merger that needs activations is fitted to during a search; the others are scored."""
    return samples - max(1, samples // 4) if samples > 1 else 0
