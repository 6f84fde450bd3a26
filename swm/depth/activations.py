"""RecordedActivations: the activations at a window, from a recording of the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from swm.depth.some_samples import SomeSamples
from swm.model.recording import Recording
from swm.model.state import State
from swm.model.view import ModelView
from swm.model.windows import Window


@dataclass(frozen=True)
class RecordedActivations:
    """Implements `WindowActivations` for one window of a model.

    Hidden states are `[samples, seq, hidden]`: `entered` enter the window in the compressed model so far, `original`
    enter it in the original model, and `left` leave it there.
    """

    view: ModelView
    recording: Recording
    window: Window
    entered: Tensor
    original: Tensor
    left: Tensor

    @cached_property
    def _some(self) -> SomeSamples:
        return SomeSamples(self.view, self.recording)

    @property
    def rows(self) -> Sequence[slice]:
        return self.recording.rows

    def entering(self) -> Tensor:
        return self.entered

    def leaving(self) -> Tensor:
        return self.left

    def run(self, state: State) -> Tensor:
        return self.view.run_layer(self.recording, self.window.first, self.entered, state)

    def run_some(self, samples: Tensor, state: State) -> Tensor:
        return self._some.run(samples, self.entered[samples], self.window.first, state)

    def inputs(self, role: str, state: State | None) -> Tensor:
        return self.view.run_watched(self.recording, self.window.first, self.entered, role, state)[1]

    def inputs_of(self, batch: int, role: str, state: State | None) -> Tensor:
        hidden = self.entered[self.rows[batch]]
        call = self.recording.calls[batch][self.window.first]
        return self.view.layer(self.window.first).run_watched(call, hidden, role, state)[1]

    def originals(self, role: str) -> Iterator[Tensor]:
        hidden = self.original
        for position in range(self.window.first, self.window.last + 1):
            hidden, inputs = self.view.run_watched(self.recording, position, hidden, role)
            yield inputs
