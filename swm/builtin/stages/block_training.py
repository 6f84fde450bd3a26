"""Training of layers from the bottom up, each to end where the original model is."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import torch

from swm.depth.activations import RecordedActivations
from swm.fitting.refitting import left_out_of
from swm.interfaces.progress import Task
from swm.model.finite import check_finite
from swm.model.samples import Samples
from swm.model.state import State
from swm.model.view import ModelView
from swm.model.windows import Window
from swm.training.layer_training import LayerTraining

# A layer that was changed gets so many times the training of one that only has to undo errors from below.
CHANGED_SHARE = 3


@dataclass(frozen=True)
class TrainedLayer:
    """The layer with this original number, and its new parameters."""

    number: int
    state: State


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
    ) -> None:
        """The two streams at their beginning.

        Args:
            view: The compressed model.
            dense: The original one.
            samples: The text.
            how: How a layer is trained; `epochs` are those of a changed one.
            seconds: The time for everything.
            fold: One of so many samples is left out.
        """
        self.start = time.perf_counter()
        self.view, self.dense, self.how, self.seconds = view, dense, how, seconds
        self.records = view.record(samples, only_first=True), dense.record(samples, only_first=True)
        self.hidden = self.records[0].states[0]
        self.wanted = self.records[1].states[0]
        self.same = torch.equal(self.hidden, self.wanted)
        self.reached = 0
        held = left_out_of(len(self.hidden), 1, fold)[:, 0] & (len(self.hidden) > 1)
        self.held, self.kept = (part.nonzero().flatten() for part in (held, ~held))
        self.running = 0.0
        self.facts: list[dict[str, Any]] = []

    def run(self, task: Task, above: bool) -> list[TrainedLayer]:
        """Train the changed layers, and with `above` those above the lowest of them."""
        count = len(self.view.layers)
        changed = [self._changed(position) for position in range(count)]
        lowest = changed.index(True) if True in changed else count
        shares = [CHANGED_SHARE if c else int(above and i > lowest) for i, c in enumerate(changed)]
        layers = []
        for position, share in enumerate(shares):
            self._advance(position)
            state = None
            if share:
                state = self._train(position, share, sum(shares[position:]))
            if state is not None:
                layers.append(TrainedLayer(self.view.numbers[position], state))
            self._pass(position, state, alike=position < lowest)
            task.advance(note=f"layer {self.view.numbers[position]}")
        return layers

    def _train(self, position: int, share: int, shares: int) -> State | None:
        """The layer's new parameters; None where they are no better on the samples that were left out.

        Args:
            position: Where the layer stands now.
            share: How much training it gets.
            shares: How much it and all above it get.
        """
        view, wanted = self.view, self.wanted
        begun, window = view.state(position), Window(position, position)
        activations = RecordedActivations(view, self.records[0], window, self.hidden, self.hidden, wanted)
        how, kept, held = self.how, self.kept, self.held
        if self.seconds is None:
            how = replace(how, epochs=max(1, how.epochs * share // CHANGED_SHARE))
        else:
            how = replace(how, seconds=self._left(position) * share / shares)
        before, after = (math.inf, math.inf) if not len(held) else (self._error(activations, begun), math.inf)
        state = how.train(activations.run_some, wanted, begun, kept)
        if len(held):
            after = self._error(activations, state)
        better = not len(held) or after < before
        columns = ("layer", "error_before", "error_left")
        if len(held):
            row = (view.numbers[position], round(before, 6), round(min(before, after), 6))
            self.facts.append(dict(zip(columns, row, strict=True)))
        return view.memory.keep_all(dict(state)) if better else None

    def _error(self, activations: RecordedActivations, state: State) -> float:
        return self.how.error_of(activations.run_some, self.wanted, state, self.held)

    def _left(self, position: int) -> float:
        """The seconds left for training: the time is also needed to run the layers above."""
        assert self.seconds is not None
        above = len(self.view.layers) - position + len(self.dense.layers) - self.reached
        each = self.running / max(1, position + self.reached)
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
        """Run the original model to where this layer should end."""
        begun = time.perf_counter()
        for layer in range(self.reached, self.view.ends[position] + 1):
            self.wanted = self.dense.run_layer(self.records[1], layer, self.wanted)
            check_finite(self.wanted, f"the output of layer {layer} of the original model holds")
        self.reached = self.view.ends[position] + 1
        self.running += time.perf_counter() - begun

    def _pass(self, position: int, state: State | None, alike: bool) -> None:
        """Run the compressed model's layer; `alike` where nothing was changed up to here.

        Args:
            position: Where the layer stands now.
            state: Parameters in place of its own.
            alike: Whether nothing was changed up to here.
        """
        if alike and self.same:
            self.hidden = self.wanted
            return
        begun = time.perf_counter()
        self.hidden = self.view.run_layer(self.records[0], position, self.hidden, state)
        check_finite(self.hidden, f"the output of layer {self.view.numbers[position]} holds")
        self.running += time.perf_counter() - begun
