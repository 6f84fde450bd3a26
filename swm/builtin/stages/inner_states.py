"""InnerStates: what a model has behind some of its layers, for the training of a block to look at on its way."""

from __future__ import annotations

from collections.abc import MutableMapping

import torch
from torch import Tensor

from swm.fitting.refitting import by_length
from swm.model.view import ModelView

PLACES = 6
"""So many layers, evenly over the depth of the model."""
KEPT = torch.bfloat16
"""These states are only compared with: half of the memory, and an error far below what training leaves."""


class InnerStates:
    """The original model's states behind some layers, and the error of a block's own states there.

    The error is the mean over places and tokens of `||f(x_t) - y_t||^2 / ||y_t||^2`. A loss on intermediate states
    beside that on logits is that of Minitron (arXiv 2407.14679, on retraining), which advises it where much depth goes.
    """

    def __init__(self, dense: ModelView, states: MutableMapping[int, Tensor] | None = None) -> None:
        """Nothing is kept yet.

        Args:
            dense: The original model.
            states: Those of an earlier training on the same text.
        """
        last = len(dense.layers) - 1
        self.places = frozenset((i + 1) * last // (PLACES + 1) for i in range(PLACES)) - {last}
        self.states: MutableMapping[int, Tensor] = {} if states is None else states
        self._memory, self._given = dense.memory, dict[int, Tensor]()

    def keep(self, layer: int, rows: Tensor, hidden: Tensor, samples: int) -> None:
        """Keep what leaves a layer of the original model, where it is one of those that are looked at.

        Args:
            layer: Its position.
            rows: The numbers of the samples.
            hidden: Theirs, `[rows, seq, hidden]`.
            samples: How many samples there are.
        """
        if layer not in self.places:
            return
        if layer not in self.states:
            self.states[layer] = self._memory.empty((samples, *hidden.shape[1:]), KEPT, hidden.device)
        self.states[layer][rows.to(hidden.device)] = hidden.to(KEPT)

    def look(self, layer: int, hidden: Tensor) -> None:
        """Remember what a block has where the original model has ended its layer; without gradients it is nothing."""
        if layer in self.states and hidden.requires_grad:
            self._given[layer] = hidden

    def error(self, samples: Tensor) -> Tensor:
        """The error of what was looked at, which was that of these samples; it is forgotten."""
        given, self._given = self._given, {}
        errors = []
        for layer, hidden in given.items():
            wanted = self.states[layer][samples.to(hidden.device)].float()
            errors.append(((hidden.float() - wanted) * by_length(wanted)).square().sum(-1).mean())
        return torch.stack(errors).mean() if errors else torch.zeros((), device=samples.device)
