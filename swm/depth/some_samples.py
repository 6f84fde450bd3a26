"""SomeSamples: runs of a layer on some of the samples of a recording, with gradients where they are enabled."""

from __future__ import annotations

import torch
from torch import Tensor

from swm.model.config_depth import key_sources
from swm.model.recording import Recording
from swm.model.state import State
from swm.model.view import ModelView


class SomeSamples:
    """The layers' other arguments for some samples, kept while they are asked for."""

    def __init__(self, view: ModelView, recording: Recording) -> None:
        self._view, self.recording = view, recording
        self._calls: dict[tuple[int, ...], Recording] = {}
        images = recording.samples.images
        self.differ = bool(view.family.by_layer_of(view.model) or key_sources(view.config) or images)
        """Whether those arguments come from the tokens or from images, and are made anew for other samples."""

    def run(self, samples: Tensor, hidden: Tensor, position: int, state: State | None = None) -> Tensor:
        """What a layer makes of some samples.

        Args:
            samples: Their numbers.
            hidden: What enters the layer for them, `[samples, seq, hidden]`.
            position: Where the layer stands now.
            state: Parameters (canonical names) in place of the layer's own.

        Returns:
            The hidden states that leave it.
        """
        calls, view = self._calls_of(samples), self._view
        parts = [view.run_batch(calls, i, position, hidden[rows], state) for i, rows in enumerate(calls.rows)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _calls_of(self, samples: Tensor) -> Recording:
        """The layers' other arguments for some samples.

        Samples are whole and of one length, so those arguments are the same for any of them, unless they come from
        the tokens or from images.
        """
        chosen = tuple(samples.tolist()) if self.differ else tuple(range(len(samples)))
        if chosen not in self._calls:
            if self.differ:
                # Others are not asked for again soon.
                self._calls.clear()
            text = self.recording.samples[chosen]
            self._calls[chosen] = self._view.record(text, batch_size=len(chosen), only_first=True)
        return self._calls[chosen]
