"""Training of layers from the bottom up, each block of them to end where the original model is."""

from __future__ import annotations

import math
import time
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from swm.builtin.stages.inner_states import InnerStates
from swm.builtin.stages.original_end import OriginalEnd
from swm.depth.some_samples import SomeSamples
from swm.fitting.refitting import left_out_of
from swm.interfaces.progress import Task
from swm.memory.reused_heap import reused_heap
from swm.model.finite import check_finite
from swm.model.ranges import format_ranges
from swm.model.samples import Samples
from swm.model.state import State
from swm.model.view import ModelView
from swm.training.end_divergence import EndDivergence
from swm.training.layer_training import LayerTraining
from swm.training.token_sample import TokenSample

# A layer that was changed gets so many times the training of one that only has to undo errors from below.
CHANGED_SHARE = 3


Which = Literal["changed", "above", "all"]


@dataclass(frozen=True)
class TrainedLayer:
    """The layer with this original number, and its new parameters."""

    number: int
    state: State


@dataclass(frozen=True)
class Block:
    """Layers at these adjacent positions, and how much training they get together; none of it is 0."""

    positions: Sequence[int]
    share: int = 0


class BlockTraining:
    """The original and the compressed model side by side: of each, the hidden states at one place are in memory."""

    def __init__(
        self,
        view: ModelView,
        dense: ModelView,
        samples: Samples,
        how: LayerTraining,
        seconds: float | None,
        fold: int,
        shared: MutableMapping[str, Any] | None = None,
        inner_weight: float = 0.0,
    ) -> None:
        """The two streams at their beginning.

        Args:
            view: The compressed model.
            dense: The original one.
            samples: The text.
            how: How a block is trained; `epochs` are those of one with a changed layer.
            seconds: The time for everything.
            fold: One of so many samples is left out.
            shared: Where the original's end stays for later trainings of the same run.
            inner_weight: What the error of the states inside of a block counts beside that of its end.
        """
        self.start = time.perf_counter()
        self.view, self.dense, self.seconds = view, dense, seconds
        self.inner = inner = InnerStates(dense) if inner_weight else None
        self.how = how if inner is None else replace(how, added=lambda samples: inner_weight * inner.error(samples))
        self.records = view.record(samples, only_first=True), dense.record(samples, only_first=True)
        self.some, self.originals = SomeSamples(view, self.records[0]), SomeSamples(dense, self.records[1])
        self.hidden = self.records[0].states[0]
        self.wanted: Tensor | OriginalEnd = self.records[1].states[0]
        self.shared = {} if shared is None else shared
        self.same, self.reached = torch.equal(self.hidden, self.records[1].states[0]), 0
        held = left_out_of(len(self.hidden), 1, fold)[:, 0] & (len(self.hidden) > 1)
        self.held, self.kept = (part.nonzero().flatten() for part in (held, ~held))
        self.running, self.lowest = 0.0, 0
        self.facts: list[dict[str, Any]] = []
        self.sampled: int | None = None

    def run(self, task: Task, which: Which, span: int) -> list[TrainedLayer]:
        """Train the changed layers, and those above the lowest of them or all if asked, `span` adjacent ones together.

        Args:
            task: Advances by a layer.
            which: Which layers are trained.
            span: How many of them at once.
        """
        with reused_heap(self.view.memory.unlimited):
            return self._run_blocks(task, self._blocks(which, span))

    def _run_blocks(self, task: Task, blocks: Sequence[Block]) -> list[TrainedLayer]:
        numbers = self.view.numbers
        layers = []
        for i, block in enumerate(blocks):
            left = sum(later.share for later in blocks[i:])
            states: dict[int, State] = {}
            if left:
                self._advance(block.positions[-1])
            if block.share:
                states = self._train(block, block.share / left)
            layers += [TrainedLayer(numbers[position], state) for position, state in states.items()]
            for position in block.positions:
                # Nobody asks what leaves the last one that is trained; its end was looked at on what was left out.
                if left > block.share or not len(self.held):
                    self._pass(position, states.get(position))
                task.advance(note=f"layer {numbers[position]}")
        return layers

    def _blocks(self, which: Which, span: int) -> list[Block]:
        """All layers, from the bottom up, in blocks."""
        changed = [self._changed(position) for position in range(len(self.view.layers))]
        lowest = changed.index(True) if True in changed else len(changed)
        first = {"changed": len(changed), "above": lowest, "all": 0 if True in changed else len(changed)}[which]
        shares = [CHANGED_SHARE if c else int(i >= first) for i, c in enumerate(changed)]
        self.lowest = min(first, lowest)
        blocks: list[Block] = []
        for position, share in enumerate(shares):
            last = blocks[-1] if blocks else None
            if share and last is not None and last.share and len(last.positions) < span:
                blocks[-1] = Block([*last.positions, position], last.share + share)
            else:
                blocks.append(Block([position], share))
        # Those below the first change give what they should.
        return [replace(block, share=block.share * (block.positions[-1] >= lowest)) for block in blocks]

    def _train(self, block: Block, part: float) -> dict[int, State]:
        """The new parameters by position; none where they are no better on the samples that were left out.

        Args:
            block: What is trained.
            part: Its part of the time that is left.
        """
        begun = {
            f"{position} {key}": value
            for position in block.positions
            for key, value in self.view.state(position).items()
        }
        how, before, after = self.how, math.inf, 0.0
        if self.reached == len(self.dense.layers):
            sample = TokenSample.of(self.view, self.records[0].ids, self.hidden, how.seed)
            self.sampled = None if sample is None else sample.size
            how = replace(how, compare=EndDivergence(self.view, sample))
        for some in torch.split(self.held, how.batch):
            # Run now, so that they are in the time of the first look alone.
            _ = self.wanted[some.to(self.wanted.device)]
        looked = time.perf_counter()
        if len(self.held):
            before = self._error(how, block, begun)
        # The samples that were left out are looked at once more afterwards.
        looked = time.perf_counter() - looked
        if self.seconds is not None:
            still = 0 if part == 1 else len(self.view.layers) - block.positions[0]
            how = replace(how, seconds=max(0.0, self._left(still) - looked) * part)
        elif block.share < CHANGED_SHARE * len(block.positions):
            how = replace(how, epochs=max(1, how.epochs * block.share // (CHANGED_SHARE * len(block.positions))))
        state, steps = how.train(lambda samples, now: self._run(block, samples, now), self.wanted, begun, self.kept)
        if len(self.held):
            after = self._error(how, block, state)
            numbers = format_ranges([self.view.numbers[position] for position in block.positions])
            left = round(min(before, after), 6)
            row = {"layers": numbers, "steps": steps, "error_before": round(before, 6), "error_left": left}
            self.facts.append(row)
        if not after < before:
            return {}
        return {
            position: self.view.memory.keep_all({key: state[f"{position} {key}"] for key in self.view.state(position)})
            for position in block.positions
        }

    def _run(self, block: Block, samples: Tensor, state: State) -> Tensor:
        """What leaves the block for some samples."""
        hidden = self.hidden[samples]
        for position in block.positions:
            own = {key: state[f"{position} {key}"] for key in self.view.state(position)}
            hidden = self.some.run(samples, hidden, position, own)
            if self.inner is not None and position != block.positions[-1]:
                self.inner.look(self.view.ends[position], hidden)
        return hidden

    def _error(self, how: LayerTraining, block: Block, state: State) -> float:
        return how.error_of(lambda samples, now: self._run(block, samples, now), self.wanted, state, self.held)

    def _left(self, layers: int) -> float:
        """The seconds left for training: some are needed to run so many layers of the model, and those of the original.

        Args:
            layers: How many layers of the model are still run over all samples; with none, no other model's either.
        """
        assert self.seconds is not None
        above = layers + len(self.dense.layers) - self.reached if layers else 0
        each = self.running / max(1, len(self.view.layers) - layers + self.reached)
        return max(0.0, self.seconds - (time.perf_counter() - self.start) - above * each)

    def _changed(self, position: int) -> bool:
        """Whether the layer is another one than the original layer of its number."""
        number = self.view.numbers[position]
        own, first = self.view.state(position), self.dense.state(number)
        same = own.keys() == first.keys() and all(
            value.shape == first[key].shape and torch.equal(value, first[key].to(value)) for key, value in own.items()
        )
        return self.view.ends[position] != number or bool(self.view.replaced[position]) or not same

    def _advance(self, position: int) -> None:
        """Run the original model to where this layer should end; to its own end, once samples are asked for."""
        end, wanted = self.view.ends[position] + 1, self.wanted
        assert isinstance(wanted, Tensor)
        if end == len(self.dense.layers) and not self.originals.differ:
            self.wanted = OriginalEnd.of(
                self.dense, self.originals, wanted, self.reached, self.shared, self.how, self.inner
            )
            self.reached = end
            return
        begun = time.perf_counter()
        for layer in range(self.reached, end):
            with self.how.products(wanted.device):
                wanted = self.dense.run_layer(self.records[1], layer, wanted).to(wanted.dtype)
            check_finite(wanted, f"the output of layer {layer} of the original model holds")
            if self.inner is not None:
                self.inner.keep(layer, torch.arange(len(wanted)), wanted, len(wanted))
        self.wanted, self.reached = wanted, end
        self.running += time.perf_counter() - begun

    def _pass(self, position: int, state: State | None) -> None:
        """Run the compressed model's layer, with parameters in place of its own."""
        if self.same and position < self.lowest:
            # Nothing was changed up to here.
            assert isinstance(self.wanted, Tensor)
            self.hidden = self.wanted
            return
        begun = time.perf_counter()
        with self.how.products(self.hidden.device):
            hidden = self.view.run_layer(self.records[0], position, self.hidden, state)
        self.hidden = hidden.to(self.hidden.dtype)
        check_finite(self.hidden, f"the output of layer {self.view.numbers[position]} holds")
        self.running += time.perf_counter() - begun
