"""RecordedActivations: the activations at a window, from a recording of the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from swm.model.config_depth import key_sources
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
    _calls: dict[tuple[int, ...], Recording] = field(default_factory=dict, init=False, repr=False)

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
        calls, hidden = self._calls_of(samples), self.entered[samples]
        position = self.window.first
        parts = [self.view.run_batch(calls, i, position, hidden[rows], state) for i, rows in enumerate(calls.rows)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

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

    def _calls_of(self, samples: Tensor) -> Recording:
        """The layers' other arguments for some samples.

        Samples are whole and of one length, so those arguments are the same for any of them, unless they come from
        the tokens or from images.
        """
        view = self.view
        images = self.recording.samples.images
        from_tokens = bool(view.family.by_layer_of(view.model) or key_sources(view.config) or images)
        chosen = tuple(samples.tolist()) if from_tokens else tuple(range(len(samples)))
        if chosen not in self._calls:
            if from_tokens:
                # Others are not asked for again soon.
                self._calls.clear()
            text = self.recording.samples[chosen]
            self._calls[chosen] = view.record(text, batch_size=len(chosen), only_first=True)
        return self._calls[chosen]
